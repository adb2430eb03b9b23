"""Made-up organizations, and their reports."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId, role_arn
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.records import AppliedShard, Control, Names, Records, ShardRecord, Status, shard_name
from rolecall.organization_units import Unit
from rolecall.prove.evidence import AccountClaims, AccountEvidence, Answer, Call, Claim, Evidence
from rolecall.prove.evidence_page import evidence_json
from rolecall.report import Report, compose_report
from rolecall.report_accounts import ReportedAccount
from rolecall.report_changes import compare
from rolecall.report_data import Origin, ReportData, read_report_file
from rolecall.report_evidence import ReportedEvidence, read_evidence_file
from rolecall.report_page import render_report
from tests.unit.builders import MANAGEMENT, settings

GENERATED_AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
SANDBOXES = "ou-ab12-55555555"

UNITS = (
    Unit(id="r-ab12", name="Root", parent=None),
    Unit(id="ou-ab12-11111111", name="Security", parent="r-ab12"),
    Unit(id="ou-ab12-22222222", name="Workloads", parent="r-ab12"),
    Unit(id="ou-ab12-33333333", name="Production", parent="ou-ab12-22222222"),
    Unit(id="ou-ab12-44444444", name="Staging", parent="ou-ab12-22222222"),
    Unit(id=SANDBOXES, name="Sandboxes", parent="r-ab12"),
)
_PATHS: tuple[tuple[str, ...], ...] = (
    ("ou-ab12-22222222", "ou-ab12-33333333"),
    ("ou-ab12-22222222", "ou-ab12-33333333"),
    ("ou-ab12-22222222", "ou-ab12-44444444"),
    (SANDBOXES,),
    ("ou-ab12-11111111",),
)
_TEAMS = ["payments", "billing", "search", "ledger", "identity", "mobile", "catalog", "shipping", "risk", "data"]
_SUFFIXES = ["api", "web", "batch", "network", "tools", "archive", "events"]
_FAILURES = {
    17: (Reason.SCP_DENIED, "User: arn:aws:sts::999999999999:assumed-role/enroll is not authorized to perform: iam:CreateRole with an explicit deny in a service control policy: arn:aws:organizations::999999999999:policy/o-fd150fe903/service_control_policy/p-0a1b2c3d"),
    34: (Reason.NO_ACCESS_ROLE, "assuming OrganizationAccountAccessRole, AWSControlTowerExecution: AccessDenied"),
    46: (Reason.FOREIGN_ROLE, "role/CrossAccountReadOnlyRole was not created by Rolecall: delete or rename it"),
}  # fmt: skip


def row(account: Account, outcome: Outcome, reason: Reason | None = None, **more: object) -> LedgerRow:
    joined = account.joined_at or GENERATED_AT
    values: dict[str, object] = {"updated_at": (GENERATED_AT - timedelta(hours=6)).isoformat(), "name": account.name}
    if outcome is Outcome.ENROLLED:
        values |= {
            "access": Access.GRANTED,
            "role_arn": role_arn("aws", account.id, "CrossAccountReadOnlyRole"),
            "enrolled_at": (joined + timedelta(minutes=2)).isoformat(),
            "in_force_since": (joined + timedelta(minutes=3)).isoformat(),
        }
    return LedgerRow(account_id=account.id, outcome=outcome, reason=reason, **{**values, **more})  # type: ignore[arg-type]


def account(number: int, name: str, ou_ids: tuple[str, ...] = (), state: str = "ACTIVE") -> Account:
    joined_at = GENERATED_AT - timedelta(days=3 + number * 7 % 900)
    return Account(
        id=AccountId(f"{(number * 7_919_000_117 + 100_000_000_000) % 10**12:012}"),
        name=name,
        state=state,
        joined_at=joined_at,
        ou_ids=ou_ids,
    )


def report_of(
    accounts: Sequence[Account],
    rows: Sequence[LedgerRow],
    given: Settings | None = None,
    evidence: ReportedEvidence | None = None,
    **status: Any,
) -> Report:
    """Compose the report of accounts and rows; the source policy grants the accounts whose access is in force."""
    used = given or settings()
    origin = Origin(
        organization_id="o-fd150fe903",
        region="us-east-1",
        generated_at=GENERATED_AT,
        generated_by=f"arn:aws:sts::{MANAGEMENT}:assumed-role/Auditing/lea",
    )
    units = {unit.id: unit for unit in UNITS}
    return compose_report(origin, used, units, accounts, rows, _published(rows, used, **status), evidence)


def _published(rows: Sequence[LedgerRow], used: Settings, **status: Any) -> Records:
    attached = frozenset(each.arn for each in used.attachable_principals)
    granted = [each.account_id for each in rows if each.in_force_since]
    scope, verified_at = used.source_policy_scope, GENERATED_AT - timedelta(hours=5)
    contents = assign((), {Access.GRANTED: granted}, used, scope=scope, max_shards=10).contents
    by_index = {
        index: ShardRecord(
            name=shard_name(used.source_policy_name, index),
            applied=AppliedShard(content=content, attached=attached),
            verified_at=verified_at,
        )
        for index, content in enumerate(contents)
    }
    values: dict[str, Any] = {
        "shards": len(by_index),
        "room": 10,
        "looked_at": GENERATED_AT - timedelta(hours=1),
        "checked_at": GENERATED_AT - timedelta(minutes=30),
        "verified_at": verified_at,
        **status,
    }
    return Records(
        control=Control(),
        status=Status(names=Names.of(used), organization_id="o-fd150fe903", **values),
        by_index=by_index,
    )


def audited_organization(size: int, directory: Path) -> Report:
    """Compose the report of an organization with evidence and with the changes since an earlier report, in two files."""
    report = organization(size)
    prove, since = directory / "prove.json", directory / "earlier.html"
    prove.write_text(json.dumps(evidence_json(evidence_of(report))))
    since.write_text(render_report(replace(report, data=earlier_data(report.data))))
    audited = organization(size, read_evidence_file(prove, report.settings, report.origin.region))
    return replace(
        audited, changes=compare(read_report_file(since, report.settings, report.origin.region), audited.data)
    )


def earlier_data(data: ReportData) -> ReportData:
    """Return the data of an earlier report: without two accounts, with others failing, renamed, moved and excluded."""
    last, moved, renamed, failed, excluded, *others = sorted(data.accounts, key=lambda each: each.outcome)[2:]
    earlier = [
        replace(last, outcome="retired", access=False, reason="retired_by_request"),
        replace(moved, ou_id=SANDBOXES, ou="Root / Sandboxes"),
        replace(renamed, name="before the rename"),
        replace(failed, outcome="failed", reason="quota", access=True),
        replace(excluded, outcome="skipped", reason="excluded", access=False),
    ]
    return replace(
        data,
        generated_at=GENERATED_AT - timedelta(days=90),
        settings={**data.settings, "MemberRoleMaxSession": "7200", "Source policy shards": "2"},
        accounts=(*earlier, *others),
    )


def evidence_of(report: Report) -> Evidence:
    """Return evidence as the stage's settings imply it: enrolled accounts can be read and others can't be entered."""
    used, at = report.settings, GENERATED_AT - timedelta(hours=2)
    reader = used.source_principals[0]
    session = f"arn:aws:sts::{reader.account_id}:assumed-role/{reader.name}/rolecall-prove"

    def tested(each: ReportedAccount) -> AccountEvidence:
        arn = role_arn("aws", each.account_id, used.member_role_name)
        member = f"arn:aws:sts::{each.account_id}:assumed-role/{used.member_role_name}/rolecall-prove"
        parameter = f"arn:aws:ssm:us-east-1:{each.account_id}:parameter/rolecall-prove"

        def call(action: str, resource: str, answer: Answer, message: str | None = None) -> Call:
            return Call(
                action=action,
                resource=resource,
                expected=answer,
                answer=answer,
                code="AccessDenied" if message else None,
                message=message,
                request_id=f"6f1c{int(each.account_id) % 16**8:08x}",
                at=at,
            )

        allowed, denied = Answer.ALLOWED, Answer.DENIED
        no_session = f"User: {session} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        no_read = f"User: {member} is not authorized to perform: ssm:GetParameter on resource: {parameter} with an explicit deny in an identity-based policy"
        enrolled = {
            Claim.ASSUMED: call("sts:AssumeRole", arn, allowed),
            Claim.READ: call("iam:GetAccountSummary", "*", allowed),
            Claim.DATA_DENIED: call("ssm:GetParameter", parameter, denied, no_read),
            Claim.EXTERNAL_ID_REQUIRED: call("sts:AssumeRole", arn, denied, no_session),
        }
        outside = {Claim.NOT_ASSUMABLE: call("sts:AssumeRole", arn, denied, no_session)}
        calls = enrolled if each.outcome == Outcome.ENROLLED else outside
        claims = AccountClaims(
            account_id=each.account_id, name=each.name, role_arn=arn, status=each.outcome, claims=tuple(calls)
        )
        return AccountEvidence(account=claims, calls=calls)

    return Evidence(
        settings=used,
        region=report.origin.region,
        principal_arn=session,
        principal_id="AROAEXAMPLE:rolecall-prove",
        started=at,
        ended=at + timedelta(minutes=1),
        frozen=False,
        accounts=[tested(each) for each in report.accounts if not each.granted or each.outcome == Outcome.ENROLLED],
    )


def organization(size: int, evidence: ReportedEvidence | None = None) -> Report:
    """Compose the report of an organization of so many accounts, most of them enrolled."""
    accounts = [
        Account(id=MANAGEMENT, name="management", state="ACTIVE", joined_at=GENERATED_AT - timedelta(days=2000))
    ]
    accounts += [
        account(
            number,
            f"{_TEAMS[number % 10]}-{_SUFFIXES[number % 7]}-{number:04}",
            _PATHS[number % 5],
            state="ACTIVE" if number % 97 else "PENDING_CLOSURE",
        )
        for number in range(1, size)
    ]
    rows = [
        row(accounts[0], Outcome.ENROLLED),
        *(each for member in accounts[1:] for each in _row_of(member, int(member.name[-4:]))),
        row(account(size + 1, "acquired-and-sold"), Outcome.RETIRED, Reason.DEPARTED),
    ]
    given = settings(
        EXTERNAL_ID="auditors-secret",
        STAGE="prod",
        SOURCE_PRINCIPAL_ARNS="arn:aws:iam::111122223333:role/CloudInventory,arn:aws:iam::111122223333:role/SecurityAudit",
        EXCLUDE_OU_IDS=SANDBOXES,
    )
    return report_of(accounts, rows, given, evidence)


def _row_of(member: Account, number: int) -> Iterator[LedgerRow]:
    if member.is_below([SANDBOXES]):
        yield row(member, Outcome.SKIPPED, Reason.EXCLUDED)
    elif member.state == "PENDING_CLOSURE":
        yield row(member, Outcome.RETIRED, Reason.PENDING_CLOSURE)
    elif number % 60 in _FAILURES:
        reason, error = _FAILURES[number % 60]
        since = (GENERATED_AT - timedelta(days=number % 9, hours=3)).isoformat()
        in_force_since = since if reason is Reason.SCP_DENIED else None
        times = {"failed_at": since, "in_force_since": in_force_since}
        yield row(member, Outcome.FAILED, reason, error=error, attempts=1 + number % 6, **times)
    elif number % 211 != 7:
        yield row(member, Outcome.ENROLLED, **({} if number % 101 else {"in_force_since": None}))
