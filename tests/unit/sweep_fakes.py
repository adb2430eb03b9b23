"""The adapters of a sweep, in memory: an organization, its ledger, the source-policy table and the queues."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import AccessRow
from chalicelib.messages import Message
from chalicelib.reconciler import Verdict
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import Control, Records
from chalicelib.sweep.preview import Preview
from chalicelib.sweep.sweep import Sweep
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, SHARD, records, shard

FAR = NOW.timestamp() + 600


def recorded(*accounts: Iterable[AccountId], control: Control | None = None) -> Records:
    """Build the records of shards that grant these accounts."""
    shards = (shard(*each, name=SHARD + (f"-{index + 1}" if index else "")) for index, each in enumerate(accounts))
    return records(*shards, control=control, room=10, looked_at=NOW)


class FakePublishQueue:
    def __init__(self) -> None:
        self.sent = 0
        self.redriven = False

    def send(self) -> None:
        self.sent += 1

    def redrive(self) -> bool:
        self.redriven = True
        return True


class FakeAws:
    """Every other adapter of a sweep in one object, since their methods have different names."""

    packed_policy_percent = 12

    def __init__(
        self, listed: Iterable[AccountId] = (), rows: Iterable[LedgerRow] = (), records: Records | None = None
    ) -> None:
        self._listed = listed
        self._rows = {row.account_id: row for row in rows}
        granted = (row.account_id for row in self._rows.values() if row.access is Access.GRANTED)
        self.records = records or recorded(granted)
        self.publish = FakePublishQueue()
        self.listed = 0
        self.sent: list[AccountId] = []
        self.rolled_out: list[AccountId] = []
        self.listed_at_first_send: int | None = None
        self.keeps_messages = True
        self.is_redriving = False
        self.actions: list[dict[str, Any]] = []
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
            if self.listed_at_first_send is None:
                self.listed_at_first_send = self.listed
            if self.keeps_messages:
                self.sent.append(message.account_id)
                self.rolled_out += [message.account_id] * message.rolls_out

    def redrive(self) -> bool:
        return not self.is_redriving

    def load(self) -> Records:
        return self.records

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        self._control(uninstalling=uninstalling, uninstalled=uninstalled)

    def request_check(self, now: datetime, *, verify: bool, scope_recorded: Scope | None) -> None:
        requested = {"verify_requested_at": now} if verify else {}
        self._control(check_requested_at=now, scope_recorded=scope_recorded, **requested)

    def _control(self, **changes: Any) -> None:
        self.records = replace(self.records, control=replace(self.records.control, **changes))

    @property
    def control(self) -> Control:
        return self.records.control

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **options: Any) -> Verdict:
        """Plan an account in one second, as the reconciler does in a dry run."""
        self.clock += 1
        blocking = options.get("blocking")
        if blocking is not None:
            return Verdict(account_id=account_id, outcome=Outcome.FAILED, reason=blocking.reason, error=str(blocking))
        retiring = row is not None and row.retirement_requested_at is not None
        return Verdict(
            account_id=account_id,
            outcome=Outcome.RETIRED if retiring else Outcome.ENROLLED,
            access=Access.EXCLUDED if retiring else Access.GRANTED,
            role_arn=row.role_arn if row else None,
            actions=tuple(self.actions),
        )


def preview_of(aws: FakeAws, config: Settings | None = None) -> Preview:
    fake = cast("Any", aws)
    return Preview(config or settings(THREADS="1"), fake, fake, fake, fake, lambda: aws.clock)


def sweep_of(aws: FakeAws, config: Settings | None = None) -> Sweep:
    fake, publish = cast("Any", aws), cast("Any", aws.publish)
    preview = preview_of(aws, config)
    return Sweep(config or settings(THREADS="1"), fake, fake, fake, fake, publish, preview, lambda: aws.clock)
