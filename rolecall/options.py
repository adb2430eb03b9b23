"""Options and arguments that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

from rolecall.completion import complete_accounts, complete_ous

ONE_HOUR = 3600.0  # seconds


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Sort(StrEnum):
    """What accounts are sorted by, before their ids."""

    ACCOUNT = "account"
    NAME = "name"
    OU = "ou"
    OUTCOME = "outcome"
    REASON = "reason"
    UPDATED = "updated"


class PageFormat(StrEnum):
    """How a page is printed."""

    TEXT = "text"
    JSON = "json"


AsJson = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
Output = Annotated[
    Format, typer.Option("--output", "-o", metavar="FORMAT", help="Output as table, json or csv.", show_default=False)
]
PageOutput = Annotated[
    PageFormat, typer.Option("--output", "-o", metavar="FORMAT", help="Output as text or json.", show_default=False)
]
AccountIds = Annotated[
    list[str], typer.Argument(metavar="ACCOUNT", help="Account ids or names.", autocompletion=complete_accounts)
]
OptionalAccountIds = Annotated[
    list[str] | None, typer.Argument(metavar="ACCOUNT", help="Account ids or names.", autocompletion=complete_accounts)
]
Ous = Annotated[
    list[str] | None,
    typer.Option(
        "--ou",
        metavar="OU-ID",
        help="Only accounts below this organizational unit. Repeatable.",
        autocompletion=complete_ous,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt.")]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace a file that rolecall did not write.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return without waiting.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait. The work continues regardless.")
]


def chosen_format(output: Format, *, as_json: bool, as_csv: bool = False) -> Format:
    """Return the format of a list. Raise BadParameter for two formats."""
    given = ((output, output is not Format.TABLE), (Format.JSON, as_json), (Format.CSV, as_csv))
    chosen = {each for each, is_given in given if is_given}
    if len(chosen) > 1:
        raise typer.BadParameter("--json, --csv and -o are mutually exclusive")
    return next(iter(chosen), Format.TABLE)
