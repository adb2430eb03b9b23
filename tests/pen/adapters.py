"""The adapters of one simulated worker: what chalicelib.aws is to the real one, each call a point where others may come between."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.shards import Snapshot
from chalicelib.aws.source_policies import Existing
from chalicelib.documents import Document
from chalicelib.errors import AccountError, Reason, RetryableError
from chalicelib.reconcile import Verdict
from chalicelib.source_policy import Action, AttachTo, CreatePolicy, DetachFrom, Move, Shard, WriteVersion
from tests.pen.world import Truth, World

T = TypeVar("T")


class LostCallError(Exception):
    """A call to AWS failed, or its answer was lost."""


class Caller(Protocol):
    """The worker that an adapter is of."""

    owner: str
    settled_from: int | None  # the step at which what was decided last was placed, or found to be placed already
    excused: bool  # whether something kept it from writing all that was behind

    def call(self, what: str, effect: Callable[[], T]) -> T:
        """Let others come between, then have the effect; a LostCallError may come instead of the answer, or of the effect."""


class ShardTable:
    """The table of shards."""

    def __init__(self, world: World, worker: Caller) -> None:
        self._world = world
        self._worker = worker

    def load(self) -> Snapshot:
        placement = self._worker.call("read #placement", lambda: self._world.placement)
        names = list(self._world.items)
        self._world.random.shuffle(names)
        read = {name: self._read(name) for name in names}
        # A scan may or may not see what is new.
        if self._world.random.random() < 0.5:
            read = self._world.items | read
        shards = tuple(read[name] for name in self._world.items if name in read)
        return Snapshot(placement, shards, scope=self._world.settings.source_policy_scope)

    def _read(self, name: str) -> Shard:
        return self._worker.call(f"read {name}", lambda: self._world.items[name])

    def place(self, seen: Snapshot, changed: Iterable[Shard]) -> bool:
        shards = list(changed)
        placed = self._worker.call(f"place {_told(shards)}", lambda: self._place(seen, shards))
        if placed:
            self._worker.settled_from = self._world.step
        return placed

    def has_moved(self, seen: Snapshot) -> bool:
        moved = self._worker.call("look whether others placed", lambda: self._has_moved(seen))
        if not moved and self._worker.settled_from is None:
            self._worker.settled_from = self._world.step
        return moved

    def _has_moved(self, seen: Snapshot) -> bool:
        return self._world.placement != seen.placement

    def _place(self, seen: Snapshot, shards: list[Shard]) -> bool:
        return self._world.place(seen, shards)

    def mark_written(self, shard: Shard) -> None:
        owner = self._worker.owner
        self._worker.call(f"mark {shard.name} v{shard.written}", lambda: self._world.mark(owner, shard))

    def take_pen(self, owner: str, *, now: float, until: float) -> bool:
        return self._worker.call("take pen", lambda: self._take_pen(owner, int(now), int(until) + 1))

    def _take_pen(self, owner: str, now: int, until: int) -> bool:
        return self._world.take_pen(owner, now=now, until=until)

    def let_go(self, owner: str) -> None:
        self._worker.call("let go", lambda: self._let_go(owner))

    def _let_go(self, owner: str) -> None:
        # A killed worker's call may land when its next batch is under way.
        if self._worker.owner == owner and not self._worker.excused:
            self._world.check_nothing_left_behind(owner)
        self._world.let_go(owner)


class SourcePolicies:
    """IAM in the source account: writes count at once, reads may tell what was."""

    def __init__(self, world: World, worker: Caller) -> None:
        self._world = world
        self._worker = worker

    def find(self, name: str) -> Existing | None:
        return self._call(f"find {name}", lambda: self._find(name))

    def _find(self, name: str) -> Existing | None:
        policy = self._world.policies.get(name)
        documents: list[Document | None] = [None, *policy.documents] if policy else [None]
        if policy and policy.old:
            documents.pop(0)
        stale = self._world.random.random() < 0.5
        said = self._world.random.choice(documents) if stale else documents[-1]
        return Existing(said, ours=True) if said else None

    def check_principals(self, shards: int) -> None:
        self._call(f"check principals for {shards}", lambda: None)

    def carry_out(self, name: str, action: Action) -> None:
        owner = self._worker.owner
        match action:
            case CreatePolicy(said):
                if not self._call(f"create {name}", lambda: self._world.create_policy(owner, name, said)):
                    self._write_version(owner, name, said)
            case WriteVersion(said):
                self._write_version(owner, name, said)
            case AttachTo(arn):
                self._call(f"attach {name}", lambda: self._world.attach(owner, name, arn))
            case DetachFrom():
                message = "no source principal ever changes here"
                raise ValueError(message)

    def _write_version(self, owner: str, name: str, said: Document) -> None:
        while not self._call(f"write {name}", lambda: self._world.create_version(owner, name, said)):
            self._call(f"prune {name}", lambda: self._world.delete_version(owner, name))

    def _call(self, what: str, effect: Callable[[], T]) -> T:
        try:
            return self._worker.call(what, effect)
        except LostCallError as error:
            raise RetryableError(Reason.SERVICE_ERROR, what) from error


class Ledger:
    """The ledger's table."""

    def __init__(self, world: World, worker: Caller) -> None:
        self._world = world
        self._worker = worker

    def read(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        wanted = set(account_ids)
        rows = self._world.rows
        return self._worker.call("read rows", lambda: {each: row for each, row in rows.items() if each in wanted})

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return self._worker.call(
            f"write row {row.account_id} {row.outcome} {row.reason}", lambda: self._world.write_row(row, over)
        )


class Reconcile:
    """Looks the truth up, as the real one asks Organizations, and finds the member role as it should be."""

    def __init__(self, world: World, worker: Caller) -> None:
        self._world = world
        self._worker = worker
        self.truths: dict[AccountId, Truth] = {}
        self.rows: dict[AccountId, LedgerRow] = {}

    def __call__(
        self,
        account_id: AccountId,
        row: LedgerRow | None,
        *,
        listed: Account | None,
        refusal: AccountError | None,
        stopped: bool,
    ) -> Verdict:
        assert not stopped, "nothing is uninstalled here"
        verdict = Verdict(account_id=account_id, account=listed)
        try:
            self._decide(verdict, row, refusal)
        except LostCallError as error:
            verdict.fail(RetryableError(Reason.THROTTLED, str(error)))
        except AccountError as error:
            verdict.fail(error)
        return verdict

    def _decide(self, verdict: Verdict, row: LedgerRow | None, refusal: AccountError | None) -> None:
        account_id = verdict.account_id
        truth = Truth(verdict.account.state) if verdict.account else self._describe(account_id)
        self.truths[account_id] = truth
        self.rows.pop(account_id, None)
        if row is not None:
            self.rows[account_id] = row
        self._worker.settled_from = None
        verdict.eligible = truth is Truth.ELIGIBLE
        if verdict.eligible:
            if refusal is not None:
                raise refusal
            if self._describe(account_id, f"enter {account_id}") is Truth.DEPARTED:
                raise RetryableError(Reason.NOT_READY, "the access role can only be assumed in the organization")
            verdict.outcome, verdict.move = Outcome.ENROLLED, Move.JOIN
            return
        was_in = row is not None and (row.policy_name is not None or row.outcome is Outcome.RETIRED)
        verdict.outcome = Outcome.RETIRED if was_in else Outcome.SKIPPED
        verdict.reason = Reason.DEPARTED if truth is Truth.DEPARTED else Reason.EXCLUDED
        verdict.move = Move.LEAVE if truth is Truth.DEPARTED else Move.EXCLUDE

    def remove(self, verdict: Verdict, _: LedgerRow | None) -> None:
        message = f"no role is ever taken away here, nor that of {verdict.account_id}"
        raise ValueError(message)

    def _describe(self, account_id: AccountId, what: str = "") -> Truth:
        return self._worker.call(what or f"describe {account_id}", lambda: self._world.truth[account_id])


class InTurn(Executor):
    """A pool without threads: greenlets don't cross them."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*args, **kwargs))
        return future


def listed(account_id: AccountId, truth: Truth, now: float) -> tuple[Account, datetime]:
    """Describe an account as a listing does."""
    account = Account(id=account_id, name="", state=truth, joined_at=None)
    return account, datetime.fromtimestamp(now, UTC)


def _told(shards: list[Shard]) -> str:
    return ", ".join(f"{shard.name} v{shard.version} {sorted(shard.accounts | shard.excluded)}" for shard in shards)
