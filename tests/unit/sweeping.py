"""What a sweep reaches, in memory: an organization, its ledger, a queue, and a source policy of one shard."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.shards import Snapshot
from chalicelib.errors import AccountError, Reason
from chalicelib.pen import Readiness
from chalicelib.reconcile import Verdict
from chalicelib.requests import Message
from chalicelib.settings import Settings
from chalicelib.source_policy import Shard
from chalicelib.sweep import Sweep
from tests.unit.builders import settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FAR = NOW.timestamp() + 600


def numbered(number: int) -> AccountId:
    return AccountId(f"{number:012}")


def row(account_id: AccountId, outcome: Outcome = Outcome.ENROLLED, **more: Any) -> LedgerRow:
    """Make a row that was written a day ago, of an account in the source policy where it is enrolled."""
    policy_name = "Policy" if outcome is Outcome.ENROLLED else None
    written = {"policy_name": policy_name, "updated_at": (NOW - timedelta(days=1)).isoformat(), **more}
    return LedgerRow(account_id=account_id, outcome=outcome, **written)


def failed(number: int, reason: Reason, *, ago: timedelta, attempts: int = 1) -> LedgerRow:
    then = (NOW - ago).isoformat()
    return row(numbered(number), Outcome.FAILED, reason=reason, attempts=attempts, updated_at=then, failed_at=then)


class World:
    """Stands for every adapter that a sweep is handed: each is asked for one thing, and these names don't meet."""

    def __init__(self, listed: Iterable[AccountId] = (), rows: Iterable[LedgerRow] = ()) -> None:
        self._listed = listed
        self._rows = {row.account_id: row for row in rows}
        self.listed = 0
        self.sent: list[AccountId] = []
        self.first_sent_after: int | None = None
        self.keeps = True
        self.moving = False
        self.steps: list[dict[str, Any]] = []
        self.clock = NOW.timestamp()

    def accounts(self, *, by_ou: bool) -> Iterator[Account]:
        assert not by_ou
        for account_id in self._listed:
            self.listed += 1
            yield Account(id=account_id, name=f"Account {account_id}", state="ACTIVE", joined_at=NOW)

    def read(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        return {each: self._rows[each] for each in account_ids if each in self._rows}

    def rows(self) -> Iterator[LedgerRow]:
        yield from self._rows.values()

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if self.first_sent_after is None:
                self.first_sent_after = self.listed
            if self.keeps:
                self.sent.append(message.account_id)

    def redrive(self) -> bool:
        return not self.moving

    def standing(self) -> Snapshot:
        named = frozenset(row.account_id for row in self._rows.values() if row.policy_name is not None)
        return Snapshot(0, (Shard(name="CrossAccountReadOnlyAccess", accounts=named),))

    def follow_scope(self, *_: Any, **__: Any) -> dict[str, AccountError]:
        """Nobody changes the scope here."""
        return {}

    def foresee(self, _: frozenset[AccountId]) -> Readiness:
        return Readiness({}, None)

    def resume(self) -> None:
        """Nothing is stopped here."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **_: Any) -> Verdict:
        self.clock += 1
        return Verdict(
            account_id=account_id, outcome=Outcome.ENROLLED, role_arn=row.role_arn if row else None, actions=self.steps
        )


def sweep_of(world: World, used: Settings | None = None) -> Sweep:
    here = cast("Any", world)
    return Sweep(used or settings(THREADS="1"), here, here, here, here, here, lambda: world.clock)
