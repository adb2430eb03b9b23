"""The evidence as JSON, for the auditor's files, and as a page of text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.arns import AccountId
from rolecall.console import print_columns, print_line, print_wrapped, printable
from rolecall.exit_status import ExitStatus
from rolecall.prove.evidence import DATA_READ, AccountEvidence, Answer, Call, Claim, ClaimResult, Evidence

_MARKS = {True: ("✔", "green"), False: ("✘", "red"), None: ("?", "yellow")}
_RESULTS = {ExitStatus.OK: "passed", ExitStatus.PROBLEM: "failed", ExitStatus.UNKNOWN: "unknown"}
_CONCLUSIONS = {
    ExitStatus.OK: "passed: access is exactly as configured",
    ExitStatus.PROBLEM: "failed: access is not as configured",
    ExitStatus.UNKNOWN: "unknown: some answers were unclear",
}
_CLAIMS = {
    Claim.ASSUMED: "enrolled accounts allow the source principal to assume the member role (sts:AssumeRole)",
    Claim.READ: "enrolled accounts can be read (iam:GetAccountSummary)",
    Claim.DATA_DENIED: f"enrolled accounts deny reads of data ({DATA_READ})",
    Claim.EXTERNAL_ID_REQUIRED: "enrolled accounts deny a session without the external id (sts:AssumeRole)",
    Claim.NOT_ASSUMABLE: "accounts that are not enrolled deny the source principal (sts:AssumeRole)",
}
_ACCOUNT_ID_CHARS, _MIN_NAME_CHARS = 12, 6
_GAP = 2  # columns between those of the table
_WIDE = 100  # columns of a terminal in which the headings are on one line
_COLUMNS = (Claim.ASSUMED, Claim.READ, Claim.DATA_DENIED, Claim.EXTERNAL_ID_REQUIRED)


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """Return every call and its answer as JSON data."""
    settings = evidence.settings
    return {
        "result": _RESULTS[evidence.exit_status],
        "stage": settings.stage,
        "region": evidence.region,
        "partition": settings.partition,
        "management_account_id": settings.management_account_id,
        "member_role_name": settings.member_role_name,
        "source_principals": [principal.arn for principal in settings.source_principals],
        "external_id_required": settings.external_id is not None,
        "data_reads_denied": settings.deny_data_reads,
        "data_reads_denied_except": sorted(settings.deny_data_reads_except),
        "frozen": evidence.frozen,
        "source_principal": {"arn": evidence.principal_arn, "user_id": evidence.principal_id},
        "started": evidence.started.isoformat(),
        "ended": evidence.ended.isoformat(),
        "claims": [_claim_json(result) for result in evidence.results],
        "accounts": [_account_json(tested) for tested in evidence.accounts],
    }


def _claim_json(result: ClaimResult) -> dict[str, Any]:
    return {
        "claim": result.claim,
        "text": _CLAIMS[result.claim],
        "holds": result.holds,
        "accounts": result.total,
        "passed": result.passed,
        "failed": result.failed,
        "unknown": result.unknown,
        "explicitly_denied": result.explicit,
    }


def _account_json(tested: AccountEvidence) -> dict[str, Any]:
    account = tested.account
    return {
        "account_id": account.account_id,
        "name": account.name,
        "status": account.status,
        "role_arn": account.role_arn,
        "holds": tested.holds,
        "calls": [
            {"claim": claim, "holds": call.holds, **asdict(call), "at": call.at.isoformat()}
            for claim, call in tested.calls.items()
        ],
    }


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Print a table of the accounts, the calls whose answer was not the expected one, and the result of each claim."""
    settings = evidence.settings
    print_line(console, f"stage {settings.stage} in {evidence.region} of account {settings.management_account_id}")
    print_wrapped(console, f"as {evidence.principal_arn}, {evidence.started:%Y-%m-%d %H:%M:%S} UTC")
    if evidence.frozen:
        print_line(console, "the stage is frozen: every new session is denied until rolecall unfreeze", "yellow")
    console.print()
    print_columns(console, _table(evidence.accounts, console.width))
    console.print()
    for holds, line in _unexpected_answers(evidence.accounts):
        print_wrapped(console, line, _marked(holds, "") + Text(" "))
    for result in evidence.results:
        print_wrapped(console, _result_text(result), _marked(result.holds, "") + Text(" "))
    print_line(console, _CONCLUSIONS[evidence.exit_status], "bold")


def _table(accounts: Sequence[AccountEvidence], width: int) -> Table:
    """Return a row for each account. On a narrow terminal, statuses are wrapped at words, and names are cut."""
    columns = [
        claim for claim in _COLUMNS if claim is Claim.ASSUMED or any(claim in each.account.claims for each in accounts)
    ]
    rows = [[_cell(tested, claim) for claim in columns] for tested in accounts]
    claims = [
        max([*map(len, claim.split()), *(cell.cell_len for cell in cells)])
        for claim, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    word = max(len(word) for each in accounts for word in ("status", *each.account.status.split()))
    room = width - sum(each + _GAP for each in (_ACCOUNT_ID_CHARS, word, *claims))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column("account", no_wrap=True)
    table.add_column("name", no_wrap=True, overflow="ellipsis", max_width=max(room, _MIN_NAME_CHARS))
    table.add_column("status", overflow="fold")
    for claim in columns:
        table.add_column(claim if width > _WIDE else claim.replace(" ", "\n"), no_wrap=True)
    for tested, cells in zip(accounts, rows, strict=True):
        account = tested.account
        table.add_row(account.account_id, Text(printable(account.name)), Text(account.status), *cells)
    return table


def _unexpected_answers(accounts: Iterable[AccountEvidence]) -> Iterator[tuple[bool | None, str]]:
    """Yield each answer that was not the expected one, once for all accounts with the same one, as after a freeze."""
    groups: dict[tuple[object, ...], list[tuple[AccountId, Claim, Call]]] = {}
    for tested in accounts:
        account_id = tested.account.account_id
        for claim, call in tested.calls.items():
            if not call.holds:
                message = (call.message or "").replace(account_id, "")
                group = (claim, call.action, call.answer, call.code, message)
                groups.setdefault(group, []).append((account_id, claim, call))
    for (account_id, claim, call), *others in groups.values():
        answer = f"{call.answer}: {call.code}: {call.message}" if call.code else str(call.answer)
        more = f" and {len(others)} more" if others else ""
        yield call.holds, f"{account_id}{more} {claim}: {call.action} {call.resource} was {answer}"


def _result_text(result: ClaimResult) -> str:
    text = f"{result.passed} of {result.total} {_CLAIMS[result.claim]}"
    if result.claim is Claim.DATA_DENIED and result.passed:
        text += f", {result.explicit} by an explicit deny"
    return f"{text}; {result.unknown} unknown" if result.unknown else text


def _cell(tested: AccountEvidence, column: Claim) -> Text:
    claims = tested.account.claims
    claim = Claim.NOT_ASSUMABLE if column is Claim.ASSUMED and Claim.NOT_ASSUMABLE in claims else column
    if claim not in claims:
        return Text("-", style="dim")
    call = tested.calls.get(claim)
    if call is None:
        return _marked(None, "")  # not tested
    if call.holds and column is not Claim.ASSUMED:
        return _marked(call.holds, "")  # the heading is the answer
    answer = {Answer.ALLOWED: "allowed", Answer.DENIED: "denied"}.get(call.answer, call.code or "no answer")
    return _marked(call.holds, answer)


def _marked(holds: bool | None, text: str) -> Text:  # noqa: FBT001 - true, false or unknown
    """Return a text after the mark of a result; without a text, the mark."""
    mark, style = _MARKS[holds]
    return Text.assemble((mark, style), f" {text}" if text else "")
