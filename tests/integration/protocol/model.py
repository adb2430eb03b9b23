"""A search for orders of events in which the source policy's single writer violates an invariant.

A seed chooses what may happen (failures, stalls, lost records, a freeze, ...) and the order of all steps. Enroll runs in parallel,
publish one run after another, unless the visibility timeout has passed or a freeze invokes it. Any process may be killed, or stall,
between two of its steps. When nothing is left to do, IAM must grant what it should.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from tests.integration.protocol.checks import check_end, waits_for_broken_shard
from tests.integration.protocol.enroll import enroll
from tests.integration.protocol.events import Events, Feature, choose_features
from tests.integration.protocol.publish import CALL_SECONDS, SETTLE_SECONDS, Publish
from tests.integration.protocol.rules import AS_DESIGNED, Rules
from tests.integration.protocol.world import (
    Call,
    RunEndedError,
    Steps,
    TerminalError,
    TransientError,
    UnknownOutcomeError,
    Violation,
    World,
)

ENROLL_WORKERS = 4
RETRY_SECONDS = 5.0
QUIET_SECONDS = 1800.0  # in which all queues become empty


@dataclass(eq=False)
class Process:
    """A running invocation."""

    steps: Steps
    accounts: list[str] = field(default_factory=list)
    messages: int = 0  # of the publish queue
    ready_at: float = 0.0
    waiting: bool = False  # for its call
    error: Exception | None = None

    @property
    def publishes(self) -> bool:
        return not self.accounts


@dataclass(frozen=True)
class Pending:
    """A call that has begun."""

    takes_effect_at: float
    call: Call
    process: Process | None  # None if the process does not receive the response


class ModelRun:
    """The run of one seed."""

    def __init__(self, seed: int, rules: Rules, features: frozenset[Feature] | None = None) -> None:
        self._random = random = Random(seed)  # noqa: S311 - repeatable, not secret
        self._rules = rules
        self._features = features = choose_features(random) if features is None else features
        accounts = [f"{number:03}" for number in range(random.randint(3, 8))]
        self.world = World(random, accounts, capacity=random.randint(1, 4))
        self.world.failure_rate = 0.2 if Feature.FAILED_CHECK in features else 0.0
        self._processes: list[Process] = []
        self.pending: list[Pending] = []
        self._runs = 0
        self._quiet = False
        self._kills = random.choice((0.01, 0.03)) if Feature.KILL in features else 0.0
        self._stalls = random.choice((0.02, 0.06)) if Feature.STALL in features else 0.0
        self._faults = random.choice((0.03, 0.1)) if Feature.FAULT in features else 0.0
        self._event_rate = random.choice((0.05, 0.1, 0.2))
        self._events = Events(self)

    @property
    def is_publishing(self) -> bool:
        return any(process.publishes for process in self._processes)

    @property
    def is_enrolling(self) -> bool:
        return any(not process.publishes for process in self._processes)

    def run(self) -> set[Violation]:
        """Return the violations."""
        events = self._events.possible(self._features)
        for _ in range(self._random.randint(1, 4)):
            self._quiet = False
            for _ in range(self._random.randint(20, 100)):
                if self._random.random() < self._event_rate:
                    self._random.choice(events)()
                self._advance()
            if self._becomes_quiet() and Feature.EDIT not in self._features:
                self._check_end()
        self.world.broken_shards.clear()
        self.world.now += 2 * SETTLE_SECONDS
        self._events.resync()
        if self._becomes_quiet():
            self._check_end()
        return self.world.violations

    def _becomes_quiet(self) -> bool:
        self._quiet = True
        until = self.world.now + QUIET_SECONDS
        while self._advance():
            if self.world.now > until:
                self.world.violations.add(Violation.NEVER_ENDS)
                return False
        return True

    def _advance(self) -> bool:
        """Take one step, of any process. Return False if nothing is left to do."""
        world = self.world
        world.now += self._random.random() * 0.4
        self._take_effect()
        ready = [process for process in self._processes if not process.waiting and process.ready_at <= world.now]
        if not ready or self._random.random() < 0.35:
            self._start()
            ready = [process for process in self._processes if not process.waiting and process.ready_at <= world.now]
        if not self._quiet and self._processes:
            process = self._random.choice(self._processes)
            if self._random.random() < self._kills:
                self._end(process, finished=False)
                return True
            if self._random.random() < self._stalls:
                self._stall(process)
                return True
        if not ready:
            return self._pass_time()
        self._step(self._random.choice(ready))
        return True

    def _pass_time(self) -> bool:
        world = self.world
        times = [process.ready_at for process in self._processes if not process.waiting]
        times += [pending.takes_effect_at for pending in self.pending]
        times += [visible_at for visible_at, _ in world.accounts_queue]
        times += world.publish_queue
        if not times:
            return False
        world.now = max(world.now, min(times))
        return True

    def _start(self) -> None:
        world, random = self.world, self._random
        visible = [message for message in world.accounts_queue if message[0] <= world.now]
        enrolling = sum(not process.publishes for process in self._processes)
        if visible and enrolling < ENROLL_WORKERS and random.random() < 0.5:
            batch = random.sample(visible, min(len(visible), random.randint(1, 3)))
            for message in batch:
                world.accounts_queue.remove(message)
            accounts = list(dict.fromkeys(account for _, account in batch))
            self._processes.append(Process(enroll(world, self._rules, accounts), accounts))
            return
        if any(process.messages for process in self._processes):
            return
        messages = [visible_at for visible_at in world.publish_queue if visible_at <= world.now][: random.randint(1, 4)]
        if messages:
            for visible_at in messages:
                world.publish_queue.remove(visible_at)
            self.start_publish(len(messages))

    def start_publish(self, messages: int = 0) -> None:
        self._runs += 1
        self._processes.append(Process(Publish(self.world, self._rules, self._runs).steps(), messages=messages))

    def _stall(self, process: Process) -> None:
        """Pause a process; the messages of a run are delivered again meanwhile."""
        until = self.world.now + self._random.choice((3.0, 10.0, 30.0, 100.0)) * self._random.random()
        process.ready_at = max(process.ready_at, until)
        if process.publishes:
            self.world.publish_queue += [self.world.now] * process.messages
            process.messages = 0

    def _end(self, process: Process, *, finished: bool) -> None:
        self._processes.remove(process)
        if not finished:
            for account in process.accounts:
                self.world.send_account(account, delay=RETRY_SECONDS)
            self.world.publish_queue += [self.world.now + RETRY_SECONDS] * process.messages

    def _step(self, process: Process) -> None:
        error, process.error = process.error, None
        try:
            call = process.steps.send(None) if error is None else process.steps.throw(error)
        except StopIteration as stop:
            for account in stop.value:
                if not (self._quiet and waits_for_broken_shard(self.world, account)):
                    self.world.send_account(account, delay=RETRY_SECONDS)
            self._end(process, finished=True)
        except (RunEndedError, TransientError, TerminalError):
            self._end(process, finished=False)
        else:
            if call is not None:
                self._begin(process, call)

    def _fault_rate(self) -> float:
        return self._faults / 10 if self._quiet else self._faults

    def _begin(self, process: Process, call: Call) -> None:
        """Begin a call, which takes effect within its time; the process may not receive the response."""
        random, now = self._random, self.world.now + self._random.random()
        fault = (
            random.choice(("rejected", "response lost", "timeout")) if random.random() < self._fault_rate() else None
        )
        slow = fault == "timeout" or (self._stalls and random.random() < 0.3)
        takes_effect_at = now + random.random() * (CALL_SECONDS if slow else 0.3)
        responds = fault is None
        if not responds:
            process.error = UnknownOutcomeError() if fault == "timeout" else TransientError()
            process.ready_at = now + random.random() * CALL_SECONDS if fault == "timeout" else takes_effect_at
        process.waiting = responds
        if fault != "rejected":
            self.pending.append(Pending(takes_effect_at, call, process if responds else None))

    def _take_effect(self) -> None:
        due = [pending for pending in self.pending if pending.takes_effect_at <= self.world.now]
        for pending in sorted(due, key=lambda pending: pending.takes_effect_at):
            self.pending.remove(pending)
            error: Exception | None = None
            try:
                pending.call.effect()
            except (TerminalError, RunEndedError) as raised:
                error = raised
            if pending.process is not None:
                pending.process.error, pending.process.waiting = error, False

    def _check_end(self) -> None:
        events = self._events
        check_end(self.world, frozen=events.freeze_requested if events.freeze_is_known else None)


@dataclass(frozen=True)
class SearchReport:
    """What a search found."""

    seeds: int
    violations: Counter[Violation]
    """How many seeds had each violation."""
    first: dict[Violation, int]
    """The first seed with each violation."""

    def __str__(self) -> str:
        found = [f"  {count:6} seeds, first {self.first[what]}: {what}" for what, count in self.violations.items()]
        return "\n".join([f"protocol: seeds={self.seeds} violations={self.violations.total()}", *found])


def search(
    seeds: Iterable[int],
    rules: Rules = AS_DESIGNED,
    features: frozenset[Feature] | None = None,
    until: Violation | None = None,
) -> SearchReport:
    """Run seeds, up to the first that has the violation `until`."""
    count, violations, first = 0, Counter[Violation](), dict[Violation, int]()
    for seed in seeds:
        count += 1
        found = ModelRun(seed, rules, features).run()
        for violation in sorted(found):
            violations[violation] += 1
            first.setdefault(violation, seed)
        if until in found:
            break
    return SearchReport(count, violations, first)
