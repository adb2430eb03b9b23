"""The global options, which may be before or after the command, and the help of commands without markup."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

from rolecall.document_links import linked

if TYPE_CHECKING:
    import boto3
    from typer._click import HelpFormatter
    from typer._click.core import Context, Parameter

    from rolecall.stage import Stage

_NOT_A_CHOICE = re.compile(r"'(?P<given>[^']*)' is not one of (?P<choices>'.*')")
GLOBAL_OPTIONS = ("stage", "profile", "region", "endpoint_url", "debug")


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options: the stage, and how to connect to it."""

    stage: str | None
    profile: str | None
    region: str | None
    endpoint_url: str | None
    debug: bool = False

    def open(self, *, or_default: bool = False) -> "Stage":
        """Return the stage, by default the only deployed one; with `or_default`, prod if the credentials may not find it."""
        from rolecall.clients import ClientFactory
        from rolecall.console import print_warning
        from rolecall.stage import Stage
        from rolecall.stages import only_stage

        session = self._session()
        name = self.stage or only_stage(ClientFactory(session, self.endpoint_url), or_default=or_default)
        return Stage(name, session, self.endpoint_url, print_warning)

    def open_all(self) -> "list[Stage]":
        """Return every stage that is deployed in the account and region of the credentials, sorted by name."""
        from rolecall.clients import ClientFactory
        from rolecall.stage import Stage
        from rolecall.stages import stage_names

        session = self._session()
        names = stage_names(ClientFactory(session, self.endpoint_url))
        return [Stage(name, session, self.endpoint_url) for name in names]

    def prepare(self, session: "boto3.Session") -> "boto3.Session":
        """Return a session whose calls are logged, if that is wanted."""
        from rolecall.call_log import log_calls
        from rolecall.console import print_debug

        if self.debug:
            log_calls(session, print_debug)
        return session

    def _session(self) -> "boto3.Session":
        """Return a session with credentials of the default chain or of a profile."""
        import boto3

        from rolecall.aws_errors import translate_errors

        with translate_errors("opening a session"):
            return self.prepare(boto3.Session(profile_name=self.profile, region_name=self.region))


def connection_of(ctx: "Context") -> Connection:
    """Return the global options of a command, also while a shell completes it, when no command runs."""
    if isinstance(ctx.obj, Connection):
        return ctx.obj
    given = ctx.find_root().params
    return Connection(
        given.get("stage"),
        given.get("profile"),
        given.get("region"),
        given.get("endpoint_url"),
        debug=bool(given.get("debug")),
    )


class _Help:
    """Formats a docstring: paragraphs are wrapped, indented ones are examples and tables, kept line by line."""

    help: str | None

    def format_help_text(self, ctx: "Context", formatter: "HelpFormatter") -> None:  # noqa: ARG002 - click's signature
        """Write the description."""
        for paragraph in linked(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                width = formatter.width - formatter.current_indent
                for is_example, group in groupby(paragraph.splitlines(), key=lambda line: line.startswith(" ")):
                    lines = list(group)
                    text = "\n".join(_fitted(lines, width) if is_example else lines)
                    formatter.write_text(f"\b\n{text}" if is_example else text)


class Command(_Help, TyperCommand):
    """A command that also takes the global options."""

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return the parameters of the command, and the global options."""
        return [*super().get_params(ctx), *_inherited(ctx)]

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse the arguments; a global option after the command replaces the one before it."""
        try:
            rest = super().parse_args(ctx, args)
        except BadParameter as error:
            error.message = readable_error(error.message)
            raise
        given = {name: ctx.params.pop(name) for name in GLOBAL_OPTIONS if name in ctx.params}
        given = {
            name: value
            for name, value in given.items()
            if (source := ctx.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        }
        ctx.obj = replace(connection_of(ctx), **given)
        return rest

    def format_options(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the command's own arguments and options, and the global options after them."""
        inherited = _inherited(ctx)
        own = [each for each in self.get_params(ctx) if each not in inherited]
        sections = {
            "Arguments": [each for each in own if each.param_type_name == "argument"],
            "Options": [each for each in own if each.param_type_name == "option"],
            "Global options": inherited,
        }
        for title, parameters in sections.items():
            records = [record for each in parameters if (record := each.get_help_record(ctx)) is not None]
            if title == "Arguments":
                records = [(name.partition(" <")[0], text) for name, text in records]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(_Help, TyperGroup):
    """The command line, whose help has the commands by purpose, each with its whole sentence."""

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the commands, in the order of their registration."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            sections.setdefault(command.rich_help_panel or "Commands", []).append(
                (name, command.help.partition("\n\n")[0])
            )
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def readable_error(message: str) -> str:
    """Return an error about a value without pydantic's prefix; of many choices, only the one that was probably meant."""
    text = message.removeprefix("Value error, ")
    found = _NOT_A_CHOICE.search(text)
    near = difflib.get_close_matches(found["given"], found["choices"].strip("'").split("', '"), n=1) if found else []
    return f"{found['given']!r} is unknown: did you mean {near[0]}?" if found and near else text


def _inherited(ctx: "Context") -> "list[Parameter]":
    root = ctx.find_root().command
    return [each for each in root.params if each.name in GLOBAL_OPTIONS]


def _fitted(lines: Iterable[str], width: int) -> Iterator[str]:
    """Yield the lines of examples; one that is too long continues after a backslash."""
    for line in lines:
        fitted = textwrap.wrap(
            line, width - 2, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
        )
        yield line if len(line) <= width else " \\\n".join(fitted)
