"""Options and arguments that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

ONE_HOUR = 3600.0  # seconds


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


AsJson = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
Output = Annotated[
    Format, typer.Option("-o", metavar="FORMAT", help="Output as table, json or csv.", show_default=False)
]
AccountIds = Annotated[list[str], typer.Argument(metavar="ACCOUNT…", help="Account ids of twelve digits.")]
OptionalAccountIds = Annotated[
    list[str] | None, typer.Argument(metavar="ACCOUNT…", help="Account ids of twelve digits.")
]
Ous = Annotated[
    list[str] | None,
    typer.Option("--ou", metavar="OU-ID", help="Only accounts below this organizational unit. Repeatable."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt.")]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace a file that rolecall did not write.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return without waiting.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait. The work continues regardless.")
]
