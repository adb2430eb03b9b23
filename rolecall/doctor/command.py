"""What `rolecall doctor` does: look at everything, and tell what is wrong and how to mend it."""

import json
import sys
from collections import Counter
from datetime import UTC, datetime

from rich.text import Text

from chalicelib.arns import AccountId, is_account_id
from rolecall.console import printable, whole_lines
from rolecall.doctor.examination import CHECKS, examine
from rolecall.doctor.finding import Check, Finding, Verdict
from rolecall.doctor.patient import Patient
from rolecall.errors import CommandError
from rolecall.stage import Stage

_MARKS = {Verdict.OK: ("✔", "green"), Verdict.WRONG: ("✘", "red"), Verdict.CANT_TELL: ("?", "yellow")}
_VERDICTS = (Verdict.OK, Verdict.WRONG, Verdict.CANT_TELL)
"""By exit status."""

_WIDTH = max(len(check.name) for check in CHECKS)


def doctor(stage: Stage, *, account: str | None, as_json: bool) -> int:
    """Examine a stage, print a line for each check as it is done, and tell the exit status."""
    if account is not None and not is_account_id(account):
        raise CommandError(f"{account!r} is no account id: name twelve digits by --account")
    patient = Patient(stage, AccountId(account) if account else None)
    output, found = whole_lines(), []
    for check, finding in examine(patient):
        found.append((check, finding))
        if not as_json:
            output.print(_line(check, finding, apart=output.is_terminal))
    if as_json:
        sys.stdout.write(json.dumps(_document(patient, found), indent=2) + "\n")
    else:
        counts = Counter(finding.verdict for _, finding in found)
        output.print(Text(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict), style="bold"))
    return exit_status([finding.verdict for _, finding in found])


def exit_status(verdicts: list[Verdict]) -> int:
    """Tell by the exit status whether all is well: 0, 1 where something is wrong, 2 where that can't be told."""
    if Verdict.WRONG in verdicts:
        return 1
    return 2 if Verdict.CANT_TELL in verdicts else 0


def _line(check: Check, finding: Finding, *, apart: bool) -> Text:
    """Write a check's line; what mends it stands apart below where a person reads it, and on the same line where it is piped."""
    mark, style = _MARKS[finding.verdict]
    line = Text.assemble((mark, style), " ", (f"{check.name:{_WIDTH}}", "bold"), "  ", printable(finding.saw))
    if finding.mend is not None:
        line.append("\n" + " " * (_WIDTH + 4) if apart else " ")
        line.append("→ ", style="dim").append(printable(finding.mend), style="cyan")
    return line


def _document(patient: Patient, found: list[tuple[Check, Finding]]) -> dict[str, object]:
    return {
        "verdict": _VERDICTS[exit_status([finding.verdict for _, finding in found])],
        "stage": patient.stage.name,
        "region": patient.stage.region,
        "account_id": patient.account_id,
        "caller": patient.caller_arn,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": [
            {"name": check.name, "verdict": finding.verdict, "saw": finding.saw, "mend": finding.mend}
            for check, finding in found
        ],
    }
