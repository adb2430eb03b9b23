"""The values that shells complete. Typer's scripts evaluate them, so that only harmless characters are returned."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from rolecall.errors import CommandError
from rolecall.global_options import connection_of

if TYPE_CHECKING:
    from rolecall.global_options import Connection

_HARMLESS = re.compile(r"[A-Za-z0-9_.@+-]+")
_OTHER = re.compile(r"[^A-Za-z0-9_.@+ -]")

Completions = Iterable[tuple[str, str]]
"""Values with what they mean."""


def _completer(
    read: "Callable[[Connection], Completions]",
) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """Return a function for Typer, which completes nothing if the values can't be read."""

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        try:
            found = list(read(connection_of(ctx)))
        except CommandError:
            return []
        return [
            (value, _OTHER.sub("?", meaning))
            for value, meaning in found
            if value.startswith(incomplete) and _HARMLESS.fullmatch(value)
        ]

    return complete


def _stages(connection: "Connection") -> Completions:
    return ((stage.name, stage.region) for stage in connection.open_all())


def _accounts(connection: "Connection") -> Iterator[tuple[str, str]]:
    """Yield the ids of the accounts in the ledger, and the names."""
    rows = connection.open().rows()
    yield from ((row.account_id, row.name or "") for row in rows)
    yield from ((row.name, row.account_id) for row in rows if row.name)


def _ous(connection: "Connection") -> Completions:
    units = connection.open().units().values()
    return ((unit.id, unit.name) for unit in units if unit.parent is not None)


complete_stages, complete_accounts, complete_ous = map(_completer, (_stages, _accounts, _ous))
