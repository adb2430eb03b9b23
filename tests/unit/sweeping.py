"""What a sweep reaches, in memory: an organization, its ledger, the source-policy table and the queues."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import AccessRow
from chalicelib.errors import Reason
from chalicelib.messages import Message
from chalicelib.reconciler import Verdict
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import AppliedShard, Control, Names, Records, ShardContent, ShardRecord, Status
from chalicelib.sweep.preview import Preview
from chalicelib.sweep.sweep import Sweep
from tests.unit.builders import settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FAR = NOW.timestamp() + 600


def numbered(number: int) -> AccountId:
    return AccountId(f"{number:012}")


def row(account_id: AccountId, outcome: Outcome = Outcome.ENROLLED, **more: Any) -> LedgerRow:
    """Make a row that was written a day ago, of an account whose access is in force where it is enrolled."""
    then = (NOW - timedelta(days=1)).isoformat()
    access: dict[str, Any] = {}
    if outcome is Outcome.ENROLLED:
        access = {"access": Access.GRANTED, "in_force_since": then}
    return LedgerRow(account_id=account_id, outcome=outcome, **({"updated_at": then} | access | more))


def failed(number: int, reason: Reason, *, ago: timedelta, attempts: int = 1) -> LedgerRow:
    then = (NOW - ago).isoformat()
    return row(numbered(number), Outcome.FAILED, reason=reason, attempts=attempts, updated_at=then, failed_at=then)


def recorded(*accounts: Iterable[AccountId], **more: Any) -> Records:
    """Make the records of shards that grant accounts, each with what was found of the whole."""
    names = Names.of(settings())
    shards = {
        index: ShardRecord(
            name=names.source_policy_name + (f"-{index + 1}" if index else ""),
            applied=AppliedShard(content=ShardContent(accounts=frozenset(each))),
        )
        for index, each in enumerate(accounts)
    }
    status = Status(names=names, organization_id="o-abcdefghij", shards=len(shards), room=10, looked_at=NOW)
    return replace(Records(status=status, by_index=shards), **more)


class Runs:
    """Stands for the publish queue: counts the runs that were asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.redriven = False

    def send(self) -> None:
        self.asked += 1

    def redrive(self) -> bool:
        self.redriven = True
        return True


class World:
    """Stands for every other adapter that a sweep is handed: each is asked for one thing, and these names don't meet."""

    def __init__(
        self, listed: Iterable[AccountId] = (), rows: Iterable[LedgerRow] = (), records: Records | None = None
    ) -> None:
        self._listed = listed
        self._rows = {row.account_id: row for row in rows}
        granted = (row.account_id for row in self._rows.values() if row.access is Access.GRANTED)
        self.records = records or recorded(granted)
        self.publish = Runs()
        self.listed = 0
        self.sent: list[AccountId] = []
        self.first_sent_after: int | None = None
        self.keeps = True
        self.moving = False
        self.steps: list[dict[str, Any]] = []
        self.clock = NOW.timestamp()

    def accounts(self, *, by_ou: bool) -> Iterator[Account]:
        for account_id in self._listed:
            self.listed += 1
            ou_ids = ("ou-ab12-11111111",) if by_ou else None
            yield Account(id=account_id, name=f"Account {account_id}", state="ACTIVE", joined_at=NOW, ou_ids=ou_ids)

    def read(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        return {each: self._rows[each] for each in account_ids if each in self._rows}

    def rows(self) -> Iterator[LedgerRow]:
        yield from self._rows.values()

    def accesses(self) -> Iterator[AccessRow]:
        for row in self._rows.values():
            times = row.in_force_since, row.enrolled_at, row.joined_at
            yield AccessRow(row.account_id, row.access, *times, row.trigger, row.reason)

    def request_retirement(self, account_id: AccountId, moment: str | None) -> bool:
        if account_id not in self._rows:
            return False
        self._rows[account_id] = replace(self._rows[account_id], retirement_requested_at=moment)
        return True

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if self.first_sent_after is None:
                self.first_sent_after = self.listed
            if self.keeps:
                self.sent.append(message.account_id)

    def redrive(self) -> bool:
        return not self.moving

    def load(self) -> Records:
        return self.records

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        self._control(uninstalling=uninstalling, uninstalled=uninstalled)

    def request_check(self, now: datetime, *, verify: bool, scope_recorded: Scope | None) -> None:
        verified = {"verify_requested_at": now} if verify else {}
        self._control(check_requested_at=now, scope_recorded=scope_recorded, **verified)

    def _control(self, **changes: Any) -> None:
        control = replace(self.records.control, **changes)
        self.records = replace(self.records, control=control)

    @property
    def control(self) -> Control:
        return self.records.control

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        self.clock += 1
        blocking = given.get("blocking")
        if blocking is not None:
            return Verdict(account_id=account_id, outcome=Outcome.FAILED, reason=blocking.reason, error=str(blocking))
        retiring = row is not None and row.retirement_requested_at is not None
        return Verdict(
            account_id=account_id,
            outcome=Outcome.RETIRED if retiring else Outcome.ENROLLED,
            access=Access.EXCLUDED if retiring else Access.GRANTED,
            role_arn=row.role_arn if row else None,
            actions=tuple(self.steps),
        )


def preview_of(world: World, used: Settings | None = None) -> Preview:
    here = cast("Any", world)
    return Preview(used or settings(THREADS="1"), here, here, here, lambda: world.clock)


def sweep_of(world: World, used: Settings | None = None) -> Sweep:
    here = cast("Any", world)
    publish = cast("Any", world.publish)
    preview = preview_of(world, used)
    return Sweep(used or settings(THREADS="1"), here, here, here, here, publish, preview, lambda: world.clock)
