"""Builders of accounts, ledger rows and records of the source policy."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from chalicelib.accounts import Access, Account, Change, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import AppliedShard, Control, Names, Records, ShardContent, ShardRecord, Status
from tests.unit.builders import ORGANIZATION_ID, settings

WORKED = "2026-03-01T10:00:30.000001+00:00"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SHARD = "CrossAccountReadOnlyAccess"


def numbered(number: int) -> AccountId:
    return AccountId(f"{number:012}")


def numbered_set(*numbers: int) -> frozenset[AccountId]:
    return frozenset(map(numbered, numbers))


def account(account_id: str, name: str = "", state: str = "ACTIVE", ou_ids: tuple[str, ...] = ()) -> Account:
    return Account(id=AccountId(account_id), name=name, state=state, joined_at=None, ou_ids=ou_ids)


def row(account_id: str, outcome: Outcome = Outcome.ENROLLED, **more: Any) -> LedgerRow:
    """Build a row; an enrolled account's access is in force by default."""
    enrolled = {"access": Access.GRANTED, "enrolled_at": WORKED, "in_force_since": WORKED}
    values = {"change": Change.NONE, "updated_at": WORKED, **(enrolled if outcome is Outcome.ENROLLED else {}), **more}
    return LedgerRow(account_id=AccountId(account_id), outcome=outcome, **values)


def failed(number: int, reason: Any, *, ago: timedelta, attempts: int = 1) -> LedgerRow:
    then = (NOW - ago).isoformat()
    return row(numbered(number), Outcome.FAILED, reason=reason, attempts=attempts, updated_at=then, failed_at=then)


def shard(*account_ids: str, name: str = SHARD, attached: frozenset[str] = frozenset(), **content: Any) -> ShardRecord:
    """Build the record of a shard whose write is finished."""
    granted = ShardContent(accounts=frozenset(map(AccountId, account_ids)), **content)
    return ShardRecord(name=name, applied=AppliedShard(content=granted, attached=attached))


def shard_contents(accounts: st.SearchStrategy[frozenset[AccountId]]) -> st.SearchStrategy[ShardContent]:
    """Generate the contents of shards in either scope, frozen or not."""
    return st.builds(ShardContent, accounts=accounts, frozen=st.booleans()) | st.builds(
        ShardContent, excluded=accounts, scope=st.just(Scope.ORGANIZATION), frozen=st.booleans()
    )


def records(
    *shards: ShardRecord, control: Control | None = None, used: Settings | None = None, **found: Any
) -> Records:
    """Build the records after a run of publish; `found` are fields of its status."""
    status = Status(
        names=Names.of(used or settings()), organization_id=ORGANIZATION_ID, **{"shards": len(shards), **found}
    )
    return Records(control=control or Control(), status=status, by_index=dict(enumerate(shards)))
