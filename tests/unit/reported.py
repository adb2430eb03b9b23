"""Made-up organizations, and their reports."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.records import AppliedShard, Control, Names, Records, ShardRecord, Status, shard_name
from rolecall.report import Origin, Report, compose
from rolecall.stage import Unit
from tests.unit.builders import MANAGEMENT, settings

MOMENT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)

UNITS = (
    Unit(id="r-ab12", name="Root", parent=None),
    Unit(id="ou-ab12-11111111", name="Security", parent="r-ab12"),
    Unit(id="ou-ab12-22222222", name="Workloads", parent="r-ab12"),
    Unit(id="ou-ab12-33333333", name="Production", parent="ou-ab12-22222222"),
    Unit(id="ou-ab12-44444444", name="Staging", parent="ou-ab12-22222222"),
    Unit(id="ou-ab12-55555555", name="Sandboxes", parent="r-ab12"),
)
_PATHS: tuple[tuple[str, ...], ...] = (
    ("ou-ab12-22222222", "ou-ab12-33333333"),
    ("ou-ab12-22222222", "ou-ab12-33333333"),
    ("ou-ab12-22222222", "ou-ab12-44444444"),
    ("ou-ab12-55555555",),
    ("ou-ab12-11111111",),
)
_TEAMS = (
    "payments",
    "billing",
    "search",
    "ledger",
    "identity",
    "mobile",
    "catalog",
    "shipping",
    "risk",
    "data-platform",
)
_TAILS = ("api", "web", "batch", "network", "tools", "archive", "events")


def row(account: Account, outcome: Outcome, reason: Reason | None = None, **more: object) -> LedgerRow:
    joined = account.joined_at or MOMENT
    told: dict[str, object] = {"updated_at": (MOMENT - timedelta(hours=6)).isoformat(), "name": account.name}
    if outcome is Outcome.ENROLLED:
        told |= {
            "access": Access.GRANTED,
            "enrolled_at": (joined + timedelta(minutes=2)).isoformat(),
            "in_force_since": (joined + timedelta(minutes=3)).isoformat(),
        }
    return LedgerRow(account_id=account.id, outcome=outcome, reason=reason, **{**told, **more})  # type: ignore[arg-type]


def account(number: int, name: str, ou_ids: tuple[str, ...] = (), state: str = "ACTIVE") -> Account:
    joined_at = MOMENT - timedelta(days=3 + number * 7 % 900)
    return Account(
        id=AccountId(f"{(number * 7_919_000_117 + 100_000_000_000) % 10**12:012}"),
        name=name,
        state=state,
        joined_at=joined_at,
        ou_ids=ou_ids,
    )


def told_of(
    accounts: Sequence[Account], rows: Sequence[LedgerRow], given: Settings | None = None, **found: Any
) -> Report:
    """Compose the report of accounts and rows, where the source policy grants what the rows say, with what publish found."""
    decided = given or settings()
    origin = Origin(
        organization_id="o-fd150fe903",
        region="us-east-1",
        generated_at=MOMENT,
        generated_by=f"arn:aws:sts::{MANAGEMENT}:assumed-role/Auditing/lea",
    )
    return compose(
        origin,
        decided,
        {unit.id: unit for unit in UNITS},
        accounts,
        rows,
        published(rows, decided, **found),
    )


def published(rows: Sequence[LedgerRow], decided: Settings, **found: Any) -> Records:
    """Return the records of a source policy that grants the accounts whose access is in force."""
    attached = frozenset(each.arn for each in decided.attachable_principals)
    granted = [each.account_id for each in rows if each.in_force_since]
    scope = decided.source_policy_scope
    contents = assign((), {Access.GRANTED: granted}, decided, scope=scope, max_shards=10).contents
    by_index = {
        index: ShardRecord(
            name=shard_name(decided, index),
            applied=AppliedShard(content=content, attached=attached),
            verified_at=MOMENT - timedelta(hours=5),
        )
        for index, content in enumerate(contents)
    }
    times = {"looked_at": MOMENT - timedelta(hours=1), "checked_at": MOMENT - timedelta(minutes=30)}
    values: dict[str, Any] = {"shards": len(by_index), "room": 10, "verified_at": MOMENT - timedelta(hours=5), **times}
    status = Status(names=Names.of(decided), organization_id="o-fd150fe903", **{**values, **found})
    return Records(control=Control(), status=status, by_index=by_index)


def organization(size: int) -> Report:
    """Make up an organization of so many accounts, most of them enrolled."""
    accounts = [Account(id=MANAGEMENT, name="management", state="ACTIVE", joined_at=MOMENT - timedelta(days=2000))]
    accounts += [
        account(
            number,
            f"{_TEAMS[number % 10]}-{_TAILS[number % 7]}-{number:04}",
            _PATHS[number % 5],
            state="ACTIVE" if number % 97 else "PENDING_CLOSURE",
        )
        for number in range(1, size)
    ]
    rows = [
        row(accounts[0], Outcome.ENROLLED),
        *(each for told in accounts[1:] for each in _row_of(told, int(told.name[-4:]))),
    ]
    left = account(size + 1, "acquired-and-sold")
    rows.append(row(left, Outcome.RETIRED, Reason.DEPARTED))
    given = settings(
        EXTERNAL_ID="auditors-secret",
        STAGE="prod",
        SOURCE_PRINCIPAL_ARNS="arn:aws:iam::111122223333:role/CloudInventory,arn:aws:iam::111122223333:role/SecurityAudit",
        EXCLUDE_OU_IDS="ou-ab12-55555555",
    )
    return told_of(accounts, rows, given)


def _row_of(told: Account, number: int) -> Iterator[LedgerRow]:
    failing = {
        17: (Reason.SCP_DENIED, "User: arn:aws:sts::999999999999:assumed-role/enroll is not authorized to perform: iam:CreateRole with an explicit deny in a service control policy: arn:aws:organizations::999999999999:policy/o-fd150fe903/service_control_policy/p-0a1b2c3d"),
        34: (Reason.NO_ACCESS_ROLE, "assuming OrganizationAccountAccessRole, AWSControlTowerExecution: AccessDenied"),
        46: (Reason.FOREIGN_ROLE, "role/CrossAccountReadOnlyRole was not created by Rolecall: delete or rename it"),
    }  # fmt: skip
    if told.is_below(["ou-ab12-55555555"]):
        yield row(told, Outcome.SKIPPED, Reason.EXCLUDED)
    elif told.state == "PENDING_CLOSURE":
        yield row(told, Outcome.RETIRED, Reason.PENDING_CLOSURE)
    elif number % 60 in failing:
        reason, error = failing[number % 60]
        since = (MOMENT - timedelta(days=number % 9, hours=3)).isoformat()
        in_force_since = since if reason is Reason.SCP_DENIED else None
        yield row(
            told,
            Outcome.FAILED,
            reason,
            error=error,
            failed_at=since,
            attempts=1 + number % 6,
            in_force_since=in_force_since,
        )
    elif number % 211 != 7:
        yield row(told, Outcome.ENROLLED, **({} if number % 101 else {"in_force_since": None}))
