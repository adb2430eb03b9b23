"""Some workers on one queue, every step of theirs picked by a seed: the real batch and the real pen over a simulated world.

Any call may be the moment when others come between, when time passes, when an answer is lost, or when the worker is killed; what
a killed worker had under way is lost, done, or lands late.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.enroll import Enroll
from chalicelib.pen import Pen
from chalicelib.requests import Message, Trigger, write_message
from chalicelib.settings import Scope
from chalicelib.source_policy import Shard, document, shard_name
from chalicelib.telemetry import logger, metrics
from tests.pen.adapters import InTurn, Ledger, LostCallError, Reconcile, ShardTable, SourcePolicies, listed
from tests.pen.world import ORGANIZATION_ID, Policy, RuleBrokenError, Truth, World, settings_for

T = TypeVar("T")

VISIBILITY = 3600.0
RECEIVES = 20  # before the queue gives a message up
STEPS = 50_000  # many times what any seed takes
SKEW = 5.0  # seconds that a worker's clock may be wrong by
LATE = 15.0  # seconds that a killed worker's last call may take to land


@dataclass(frozen=True)
class Parts:
    """What a worker is made of; a planted bug takes the place of one."""

    enroll: type[Enroll] = Enroll
    pen: type[Pen] = Pen
    table: type[ShardTable] = ShardTable
    ledger: type[Ledger] = Ledger


REAL = Parts()


@dataclass
class Queued:
    """A message in the queue."""

    id: str
    body: str
    account_id: AccountId
    visible_at: float
    receives: int = 0
    doubled: bool = False
    done: bool = False


class Unforeseen(logging.Handler):
    """Makes a broken rule of an exception that the application caught without knowing it: a bug of its own, or of this simulation."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, LostCallError):
            rule = f"nothing unforeseen is raised, as {error!r}"
            raise RuleBrokenError(rule)


class KilledError(BaseException):
    """Ends a killed worker's frames; whatever they still call in ending has no effect."""


class Worker:
    """One Lambda execution environment, which handles one batch after another."""

    def __init__(self, simulation: "Simulation", name: str, parts: Parts) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._random = simulation.random
        self._name = name
        self._skew = self._random.uniform(-SKEW, SKEW)
        self._batches = 0
        self._records: list[dict[str, Any]] = []
        self._greenlet: Any = None
        self._pending: Callable[[], object] | None = None
        self.running = False
        self.owner = ""
        self.settled_from: int | None = None
        self.excused = False
        self.ready_at = 0.0
        self.deadline = 0.0
        self._reconcile = Reconcile(self._world, self)
        self._enroll = parts.enroll(
            reconcile=self._reconcile,  # type: ignore[arg-type]
            pen=parts.pen(
                self._world.settings,
                parts.table(self._world, self),  # type: ignore[arg-type]
                SourcePolicies(self._world, self),  # type: ignore[arg-type]
                lambda: ORGANIZATION_ID,
                self._clock,
                self._pause,
            ),
            ledger=parts.ledger(self._world, self),  # type: ignore[arg-type]
            queue=self,  # type: ignore[arg-type]
            threads=1,
            clock=self._clock,
            pool=lambda _: InTurn(),
        )

    def start(self, records: list[dict[str, Any]], seconds: float) -> None:
        self._batches += 1
        self.owner = f"{self._name}.{self._batches}"
        self._records = records
        self.excused = False
        self.ready_at, self.deadline = self._world.now, self._world.now + seconds
        self._greenlet, self.running = greenlet(self._run, getcurrent()), True
        self.resume()

    def resume(self) -> None:
        self._greenlet.switch()

    def kill(self) -> None:
        """Stop the worker where it stands; its frames end without any effect."""
        pending, self._pending = self._pending, None
        self.running = False
        if self._greenlet:
            self._greenlet.throw(KilledError)
        if pending is not None:
            self._simulation.orphan(self.owner, pending)
        for record in self._records:
            self._simulation.give_back(record["messageId"])

    def call(self, what: str, effect: Callable[[], T]) -> T:
        self._refuse_the_dead()
        if self._random.random() < self._simulation.slowness:
            self.ready_at = self._world.now + self._random.choice((0.3, 3.0, 3.0, 30.0))
        self._pending = effect
        self._switch()
        self._pending = None
        fault = self._simulation.fault()
        self._simulation.tell(self.owner, what + (f" ({fault})" if fault else ""))
        # After a lost call and near its end a worker may let go of what it could not write.
        self.excused |= fault in {"lost", "answer lost"} or self._world.now >= self.deadline - 31
        if fault == "lost":
            raise LostCallError(what)
        answer = effect()
        if fault == "repeated":  # the first answer was lost, and the client asked again
            answer = effect()
        if fault == "answer lost":
            raise LostCallError(what)
        return answer

    def delay(self, receipt_handle: str, seconds: int) -> None:
        """Be the queue, as far as a worker changes it."""
        self.call(f"delay {receipt_handle} by {seconds}", lambda: self._simulation.delay(receipt_handle, seconds))

    def _clock(self) -> float:
        return self._world.now + self._skew

    def _pause(self, seconds: float) -> None:
        self.ready_at = self._world.now + seconds
        self._switch()

    def _refuse_the_dead(self) -> None:
        if not self.running:
            raise KilledError
        if self._world.broken is not None:
            raise RuleBrokenError(self._world.broken)

    def _switch(self) -> None:
        getcurrent().parent.switch()

    def _run(self) -> None:
        metrics.clear_metrics()
        try:
            answer = self._enroll(self._records, owner=self.owner, deadline=self.deadline + self._skew)
        except KilledError:
            return
        self.running = False
        self._simulation.tell(self.owner, "ends")
        self._world.require("no one keeps the pen", self.excused or self._world.holder != self.owner)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        for record in self._records:
            if record["messageId"] in failed:
                self._simulation.give_back(record["messageId"])
            else:
                account_id = self._simulation.finish(record["messageId"])
                truth = self._reconcile.truths[account_id]
                self._world.check_finished(account_id, truth, self.settled_from or 0)
                if truth is Truth.DEPARTED and account_id not in self._reconcile.rows:
                    self._world.unsure.add(account_id)


class Simulation:
    """One seed's run."""

    def __init__(self, seed: int, parts: Parts, trace: Callable[[str], None] | None = None) -> None:
        self.random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        pick = self.random
        scope = Scope.ORGANIZATION if pick.random() < 0.15 else Scope.ACCOUNTS
        accounts_a_shard = pick.choice((1, 2, 3))
        self.world = World(settings_for(scope, accounts_a_shard), pick, accounts_a_shard)
        self.slowness = pick.choice((0.0, 0.02, 0.1))
        self._trace = trace
        self._kills, self._killing = pick.randint(0, 3), pick.choice((0.005, 0.03))
        self._faults, self._failing = pick.randint(0, 4), pick.choice((0.005, 0.03))
        self._changes, self._changing = pick.randint(0, 6), pick.choice((0.003, 0.03))
        self._doubling = pick.choice((0.0, 0.2))
        self._seconds = pick.choice((90.0, 600.0, 600.0))
        self._batch = pick.randint(1, 4)
        self._queue: dict[str, Queued] = {}
        self._waiting: list[Queued] = []
        self._late: list[tuple[float, str, Callable[[], object]]] = []
        for index in range(pick.randint(2, 6)):
            self.world.truth[AccountId(f"{index + 1:012}")] = pick.choice((*Truth, Truth.ELIGIBLE, Truth.ELIGIBLE))
        if scope is Scope.ACCOUNTS and pick.random() < 0.15:
            self._hold_old_policies()
        for account_id in self.world.truth:
            self._send(account_id)
        self._workers = [Worker(self, f"worker {index}", parts) for index in range(pick.randint(2, 4))]

    def run(self) -> None:
        """Run until nothing is left to do; a RuleBrokenError tells what went wrong."""
        try:
            while self._advance():
                self.world.require("all messages are finished some day", self.world.step < STEPS)
            self.world.check_settled()
        finally:
            for worker in self._workers:
                if worker.running:
                    worker.kill()
            metrics.clear_metrics()

    # What the workers meet.

    def fault(self) -> str | None:
        if self._faults and self.random.random() < self._failing:
            self._faults -= 1
            return self.random.choice(("lost", "answer lost", "repeated"))
        return None

    def delay(self, receipt_handle: str, seconds: int) -> None:
        self._queue[receipt_handle].visible_at = self.world.now + seconds

    def finish(self, message_id: str) -> AccountId:
        message = self._queue[message_id]
        if not message.done:
            message.done = True
            self._waiting.remove(message)
        return message.account_id

    def give_back(self, message_id: str) -> None:
        """Leave a message in the queue, where it may not be any more if it was delivered twice."""
        message = self._queue[message_id]
        if message.doubled:
            self.world.unsure.add(message.account_id)

    def orphan(self, owner: str, effect: Callable[[], object]) -> None:
        """Let a killed worker's last call be lost, be done, or land late."""
        fate = self.random.choice(("lost", "done", "late"))
        self.tell(owner, f"is killed; its last call is {fate}")
        if fate == "done":
            effect()
        elif fate == "late":
            self._late.append((self.world.now + self.random.uniform(0, LATE), owner, effect))

    def tell(self, who: str, what: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.world.step:6} {self.world.now - 1_800_000_000:10.2f} s  {who:12} {what}")

    # What happens.

    def _advance(self) -> bool:
        world = self.world
        world.step += 1
        world.now += self.random.random() * 0.02
        if self._late:
            self._land()
        if self._changes and self.random.random() < self._changing:
            self._change()
        idle, ready = [], []
        for worker in self._workers:
            if worker.running and worker.deadline <= world.now:
                worker.kill()
            if not worker.running:
                idle.append(worker)
            elif worker.ready_at <= world.now:
                ready.append(worker)
        visible = [message for message in self._waiting if message.visible_at <= world.now] if idle else []
        if visible:
            ready += idle
        if not ready:
            return self._pass_time()
        worker = self.random.choice(ready)
        if not worker.running:
            worker.start(self._receive(visible), self._seconds)
        elif self._kills and self.random.random() < self._killing:
            self._kills -= 1
            worker.kill()
        else:
            worker.resume()
        return True

    def _pass_time(self) -> bool:
        running = [worker for worker in self._workers if worker.running]
        times = [min(worker.ready_at, worker.deadline) for worker in running] + [when for when, _, _ in self._late]
        if len(running) < len(self._workers):
            times += [message.visible_at for message in self._waiting]
        if self._changes and (not times or self.random.random() < self._changing):
            self._change()
        elif times:
            self.world.now = max(self.world.now, min(times))
        else:
            return False
        return True

    def _land(self) -> None:
        due = [late for late in self._late if late[0] <= self.world.now]
        for late in due:
            self._late.remove(late)
            self.tell(late[1], "its last call lands")
            late[2]()

    def _change(self) -> None:
        """Change the truth about an account, of which a message tells; or list it, of which another tells, maybe much later."""
        self._changes -= 1
        account_id = self.random.choice(list(self.world.truth))
        before = self.world.truth[account_id]
        if self.random.random() < 0.3:
            taken_at = self.world.now + self.random.uniform(-SKEW, SKEW)
            self._send(account_id, within=1200, listing=listed(account_id, before, taken_at))
            return
        self.world.truth[account_id] = self.random.choice([truth for truth in Truth if truth is not before])
        self.tell("truth", f"{account_id} is {self.world.truth[account_id]}")
        for _ in range(self.random.choice((1, 1, 2))):
            self._send(account_id, within=self.random.choice((0, 1, 60)))

    def _send(
        self, account_id: AccountId, within: float = 0, listing: tuple[Account, Any] | tuple[None, None] = (None, None)
    ) -> None:
        account, listed_at = listing
        body = write_message(
            Message(account_id=account_id, trigger=Trigger.EVENT, account=account, listed_at=listed_at)
        )
        message = Queued(str(len(self._queue)), body, account_id, self.world.now + self.random.uniform(0, within))
        self.tell("queue", f"{message.id}: {body}")
        self._queue[message.id] = message
        self._waiting.append(message)

    def _receive(self, visible: list[Queued]) -> list[dict[str, Any]]:
        batch = self.random.sample(visible, min(len(visible), self._batch))
        for message in batch:
            message.receives += 1
            self.world.require("no message is given up", message.receives <= RECEIVES)
            # A queue may deliver a message again at any time.
            twice = self.random.random() < self._doubling
            message.visible_at = self.world.now + (0 if twice else VISIBILITY)
            message.doubled |= twice
        self.tell("queue", f"delivers {[message.id for message in batch]}")
        return [
            {
                "messageId": message.id,
                "receiptHandle": message.id,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
            }
            for message in batch
        ]

    def _hold_old_policies(self) -> None:
        """Let IAM hold, from an earlier life of the deployment, policies that the table knows nothing of."""
        settings, accounts = self.world.settings, list(self.world.truth)
        for index in range(self.random.randint(1, 3)):
            some = self.random.sample(accounts, min(len(accounts), self.random.randint(0, self.world.accounts_a_shard)))
            shard = Shard(name=shard_name(settings, index), accounts=frozenset(some))
            self.world.policies[shard.name] = Policy([document(settings, shard, ORGANIZATION_ID)], old=True)


def first_broken(seeds: Iterable[int], parts: Parts = REAL, rule: str = "") -> str | None:
    """Run seeds up to the first that breaks a rule (of such words), and tell how that comes about; None if none does."""
    # What the application logs of every account is not what is looked at here, but for what it did not foresee.
    logging.disable(logging.WARNING)
    logger.handlers[:] = [Unforeseen()]
    for seed in seeds:
        broken = _broken_rule(seed, parts)
        if broken is not None and rule in broken:
            story: list[str] = []
            _broken_rule(seed, parts, story.append)
            return "\n".join([*story, f"ROLECALL_SEED={seed} breaks the rule: {broken}"])
    return None


def _broken_rule(seed: int, parts: Parts, trace: Callable[[str], None] | None = None) -> str | None:
    try:
        Simulation(seed, parts, trace).run()
    except RuleBrokenError as broken:
        return str(broken)
    return None
