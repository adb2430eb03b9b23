"""Write the help of every command at two widths, to help-60.txt and help-80.txt: python -m tests.unit.written_help."""

from pathlib import Path
from typing import Any

from typer.main import get_command

from rolecall.cli import app

WIDTHS = (60, 80)
_MARGIN = 2  # that help leaves of a terminal


def golden_path(columns: int) -> Path:
    """Return the file with the help on a terminal with so many columns."""
    return Path(__file__).with_name(f"help-{columns}.txt")


def written_help(columns: int) -> str:
    """Return the help of the command line and of each command."""
    group: Any = get_command(app)
    root = group.make_context("rolecall", [], resilient_parsing=True, terminal_width=columns - _MARGIN)
    contexts = [
        command.make_context(name, [], parent=root, resilient_parsing=True) for name, command in group.commands.items()
    ]
    pages = [f"$ {each.command_path} --help\n{each.command.get_help(each)}\n" for each in (root, *contexts)]
    return "\n".join(pages)


if __name__ == "__main__":
    for width in WIDTHS:
        golden_path(width).write_text(written_help(width), encoding="utf-8")
