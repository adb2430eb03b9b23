"""Options and arguments that several commands share."""

from typing import Annotated

import typer

ONE_HOUR = 3600.0  # seconds

AsJson = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
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
