"""The evidence as an auditor keeps it (JSON), and as a person reads it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from chalicelib.settings import Settings
from rolecall.console import bare_table, printable
from rolecall.prove.evidence import Answer, Claim, Finding, Tried, exit_status, findings

_MARKS = {True: ("✔", "green"), False: ("✘", "red"), None: ("?", "yellow")}
_VERDICTS = {0: "all as claimed", 1: "a claim does not hold", 2: "can't tell"}
_CLAIMS = {
    Claim.ASSUMED: "enrolled accounts let the reader in (sts:AssumeRole)",
    Claim.READ: "enrolled accounts are read (iam:GetAccountSummary)",
    Claim.DATA_DENIED: "enrolled accounts deny their data (ssm:GetParameter)",
    Claim.EXTERNAL_ID_ASKED_FOR: "enrolled accounts deny a session without the external id (sts:AssumeRole)",
    Claim.KEPT_OUT: "accounts that are not enrolled keep the reader out (sts:AssumeRole)",
}
_COLUMNS = (Claim.ASSUMED, Claim.READ, Claim.DATA_DENIED, Claim.EXTERNAL_ID_ASKED_FOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that was tried, by whom, when, and of which stage."""

    settings: Settings
    region: str
    reader_arn: str
    reader_user_id: str
    began: datetime
    ended: datetime
    frozen: bool
    tried: Sequence[Tried]

    @property
    def findings(self) -> list[Finding]:
        """What it comes to, claim by claim."""
        return findings(self.tried)

    @property
    def exit_status(self) -> int:
        """Whether all is as claimed."""
        return exit_status(self.findings)


def document(evidence: Evidence) -> dict[str, Any]:
    """Write everything that was tried and answered, for JSON."""
    settings = evidence.settings
    return {
        "verdict": _VERDICTS[evidence.exit_status],
        "stage": settings.stage,
        "region": evidence.region,
        "partition": settings.partition,
        "management_account_id": settings.management_account_id,
        "member_role_name": settings.member_role_name,
        "source_principals": [principal.arn for principal in settings.source_principals],
        "external_id_required": settings.external_id is not None,
        "data_reads_denied": settings.deny_data_reads,
        "frozen": evidence.frozen,
        "reader": {"arn": evidence.reader_arn, "user_id": evidence.reader_user_id},
        "began": evidence.began.isoformat(),
        "ended": evidence.ended.isoformat(),
        "claims": [
            {"claim": found.claim, "text": _CLAIMS[found.claim], "holds": found.holds, "accounts": found.total}
            | {
                "held": found.held,
                "broken": found.broken,
                "unclear": found.unclear,
                "explicitly_denied": found.explicit,
            }
            for found in evidence.findings
        ],
        "accounts": [
            {
                "account_id": each.subject.account_id,
                "name": each.subject.name,
                "standing": each.subject.standing,
                "role_arn": each.subject.role_arn,
                "holds": _whole(each),
                "calls": [
                    {"claim": claim, "holds": call.holds, **asdict(call), "at": call.at.isoformat()}
                    for claim, call in each.calls.items()
                ],
            }
            for each in evidence.tried
        ],
    }


def show(evidence: Evidence, console: Console) -> None:
    """Print the table, what was not as claimed, and a line for each claim."""
    settings = evidence.settings
    console.print(
        f"stage {settings.stage} in {evidence.region} of account {settings.management_account_id}", markup=False
    )
    console.print(f"as {evidence.reader_arn}, {evidence.began:%Y-%m-%d %H:%M:%S} UTC", markup=False)
    if evidence.frozen:
        console.print("the stage is frozen: readers are denied everything until rolecall unfreeze", style="yellow")
    console.print()
    columns = [claim for claim in _COLUMNS if any(claim in each.subject.claims for each in evidence.tried)]
    rows = bare_table("account", "name", "standing", *columns)
    for each in evidence.tried:
        named = (each.subject.account_id, Text(printable(each.subject.name)), Text(each.subject.standing))
        rows.add_row(*named, *(_cell(each, claim) for claim in columns))
    console.print(rows)
    console.print()
    for each in evidence.tried:
        for claim, call in each.calls.items():
            if not call.holds:
                answered = f"{call.answer}: {call.code}: {call.message}" if call.code else str(call.answer)
                line = f"{each.subject.account_id} {claim}: {call.action} {call.resource} was {answered}"
                console.print(_marked(call.holds, printable(line)))
    for found in evidence.findings:
        console.print(_marked(found.holds, _told(found)))
    console.print(Text(_VERDICTS[evidence.exit_status], style="bold"))


def _told(found: Finding) -> str:
    told = f"{found.held} of {found.total} {_CLAIMS[found.claim]}"
    if found.claim is Claim.DATA_DENIED and found.held:
        told += f", {found.explicit} by an explicit deny"
    return f"{told}; {found.unclear} can't be told" if found.unclear else told


def _whole(each: Tried) -> bool | None:
    told = [each.holds(claim) for claim in each.subject.claims]
    if False in told:
        return False
    return None if None in told else True


def _cell(each: Tried, column: Claim) -> Text:
    claim = Claim.KEPT_OUT if column is Claim.ASSUMED and Claim.KEPT_OUT in each.subject.claims else column
    if claim not in each.subject.claims:
        return Text("-", style="dim")
    call = each.calls.get(claim)
    if call is None:
        return _marked(None, "not tried")
    said = {Answer.ALLOWED: "allowed", Answer.DENIED: "denied"}.get(call.answer, call.code or "no answer")
    return _marked(call.holds, said)


def _marked(holds: bool | None, text: str) -> Text:  # noqa: FBT001 - whether, or not, or unknown
    mark, style = _MARKS[holds]
    return Text.assemble((mark, style), f" {text}")
