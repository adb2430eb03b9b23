"""What the demo prints: steps, details and checks."""

import json
import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console
from rich.markup import escape


class Output:
    """Prints steps and checks, and counts the failed checks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failed = 0

    def line(self, text: str) -> None:
        """Print a line."""
        self._console.print(escape(text), soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print the heading of a step."""
        self._console.print(f"[bold cyan]{escape(text)}[/]", soft_wrap=True)

    def detail(self, label: str, text: str) -> None:
        """Print a labeled line."""
        self._console.print(f"  [bold]{label:<8}[/] {escape(text)}", soft_wrap=True)

    def source_policy(self, title: str, statement: dict[str, Any], added: set[str]) -> None:
        """Print a source policy's statement, with the ids of added accounts highlighted."""
        self._console.print(f"[bold]source policy {title}[/], attached to Reader:", soft_wrap=True)
        condition = json.dumps(statement["Condition"])
        text = escape(f"{', '.join(statement['Action'])} on {statement['Resource']} where {condition}")
        for account_id in added:
            text = text.replace(account_id, f"[bold green]{account_id}[/]")
        self._console.print(f"  {text}", soft_wrap=True)

    def check(self, description: str, *, passed: bool, detail: str) -> None:
        """Print the result of a check, and count a failure."""
        self.failed += not passed
        mark = "[green]✔[/]" if passed else "[red]✘[/]"
        self._console.print(f" {mark} {escape(description)}", soft_wrap=True)
        self._console.print(f"     [dim]{escape(detail)}[/]", soft_wrap=True)

    def check_allowed(self, description: str, call: Callable[[], Any]) -> None:
        """Make a call, and check that it succeeds."""
        try:
            self.check(description, passed=True, detail=str(call()))
        except ClientError as error:
            self.check(description, passed=False, detail=str(error))

    def check_denied(self, description: str, call: Callable[[], Any]) -> None:
        """Make a call, and check that AWS denies it."""
        try:
            response = call()
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            denied = code in {"AccessDenied", "AccessDeniedException"}
            shortened = re.sub(r"^User: \S+ is ", "", message)
            self.check(description, passed=denied, detail=f"{code}: {shortened}")
        else:
            self.check(description, passed=False, detail=f"allowed: {response}")

    def summary(self) -> None:
        """Print whether all checks passed."""
        if self.failed:
            self._console.print(f"[bold red]{self.failed} checks failed[/]")
        else:
            self._console.print("[bold green]all checks passed[/]")
