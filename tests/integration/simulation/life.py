"""The life of an organization by one seed: everything changes at random while functions run at once, fail and are killed.

Each function that runs is a greenlet, which any call may interrupt: there others come between, time passes, an answer is lost, or
the function is killed. When all is quiet, and one full resync has run, the invariants must hold.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from greenlet import getcurrent, greenlet

from chalicelib.errors import RolecallError
from chalicelib.settings import Scope
from chalicelib.telemetry import metrics
from tests.integration.simulation.answers import Call, RuleBrokenError, refusal
from tests.integration.simulation.boundary import Boundary
from tests.integration.simulation.changes import DEPLOY, LET_IN, UNINSTALL, Changes
from tests.integration.simulation.cloud import SOURCE, Cloud, Seen, reader
from tests.integration.simulation.crowd import crowd
from tests.integration.simulation.invariants import LOSSES, check_quiet, check_room, check_settled, check_uninstalled
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.one_fault import LATE, KilledError, comes_after, fault_of, is_read
from tests.integration.simulation.queues import Queue, Queued
from tests.integration.simulation.stages import TIMEOUT, TIMEOUTS, Context, environ, settings_of

WAYS = (
    "scope organization",
    "scope changed",
    "uninstalled",
    "separate source account",
    "full shard",
    "foreign source policy",
    "outdated organization",
    "overlapping runs",
    "late run",
    "frozen",
    *LOSSES,
)
"""How an organization may live; a seed counts once for each."""
READ_TIMEOUT = 10.0  # seconds that freeze waits for a run of publish (`invoke_config`)
STEPS = 300_000  # several times what any seed takes
SKEW = 5.0  # seconds that a function's clock may be wrong by
LATE_SECONDS = 15.0  # seconds that a killed function's last call may take to land
RESYNC = 3600.0  # seconds between two resyncs, after which IAM shows what was written
THROTTLED = 700.0  # seconds after which Lambda may still start a batch that it received
TRIES = 3  # of Lambda, where an asynchronous invocation fails

_ANYWHERE = ("throttled", "5xx", "reset", "timeout", "timeout after", "5xx after", "repeated")
_IN_IAM = (*_ANYWHERE, "denied", "concurrent", "expired", "quota", "scp")
_IN_STS = (*_ANYWHERE, "denied", "expired")


@dataclass(eq=False)
class Running:
    """One invocation, which holds its greenlet, its clock and what it was answered."""

    name: str
    function: str
    payload: Any
    tries: int
    deadline: float
    skew: float
    ready_at: float
    greenlet: Any = None
    pending: Callable[[], Any] | None = None
    called_at: float = 0.0
    waits_for: "Running | None" = None
    alive: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)


@dataclass(order=True)
class Due:
    """What is to be invoked, and when: an event on its way, a schedule, an operator's request."""

    when: float
    number: int
    function: str = field(compare=False)
    payload: Any = field(compare=False)
    tries: int = field(compare=False, default=1)


class Life:
    """One seed's run."""

    def __init__(
        self,
        boundary: Boundary,
        seed: int,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        pick = self.random
        self.faults: Counter[str] = Counter()
        self.ways: set[str] = set()  # how it lived, for some of its time at least
        self._base, self.cloud = self._surroundings()
        self._boundary, self._trace = boundary, trace
        self._settings = self._base
        self._running: list[Running] = []
        self._due: list[Due] = []
        self._late: list[tuple[float, Callable[[], Any], str]] = []
        self._number = 0
        self.steps = 0
        self._workers = pick.randint(2, 4)
        self._batch = pick.randint(1, 5)
        self._failing = pick.choice((0.0, 0.01, 0.03, 0.1))
        self._killing = pick.choice((0.0, 0.005, 0.02))
        self._slowness = pick.choice((0.0, 0.02, 0.1))
        self._staleness = pick.choice((0.0, 0.2, 0.5))
        self._outdated = pick.choice((0.0, 0.0, 0.3))
        self._doubling = pick.choice((0.0, 0.2))
        self.cloud.members.tells_paths = pick.random() < 0.8
        self._losing = pick.choice((0.0, 0.15))
        self._seconds = pick.choice((120.0, TIMEOUT))
        self._throttling = pick.choice((0.0, 0.0, 0.2))
        self._ends = pick.random() < 0.1  # by being uninstalled, and enrolled anew
        if self._outdated:
            self.ways.add("outdated organization")
        self.last_answer: Any = None
        boundary.start(self)
        self.changes = Changes(self, pick.randint(6, 14))

    def _surroundings(self) -> tuple[dict[str, str], Cloud]:
        """Draw what stays as it is, whatever else is deployed."""
        base: dict[str, str] = {}
        if self.random.random() < 0.2:
            base["SOURCE_POLICY_SCOPE"] = "organization"
        source_account = MANAGEMENT
        if self.random.random() < 0.15:
            source_account = SOURCE
            base["SOURCE_PRINCIPAL_ARNS"] = reader(SOURCE)
            self.ways.add("separate source account")
        cloud = Cloud(source_account)
        if self.random.random() < 0.1:
            settings = settings_of(environ(**{**base, "SOURCE_POLICY_SCOPE": "accounts"}))
            crowd(cloud, settings, free=self.random.randint(0, 3), others=self.random.choice((0, 8, 9)))
            self.ways.add("full shard")
        return base, cloud

    # What the application reaches.

    def clock(self) -> float:
        running = self._current()
        return self.cloud.now + (running.skew if running else 0.0)

    def pause(self, seconds: float) -> None:
        running = self._required()
        running.ready_at = self.cloud.now + seconds
        self._switch(running)

    def call(self, call: Call) -> dict[str, Any]:
        running = self._required()
        if self.random.random() < self._slowness:
            running.ready_at = self.cloud.now + self.random.choice(self._delays(call, running))
        running.called_at = self.cloud.now
        running.pending = lambda: self._answer(call, running)
        self._switch(running)
        running.pending = None
        fault = self._fault(call)
        if running.function == "publish" and self.cloud.now > running.called_at + LATE_SECONDS:
            fault = "timeout"  # Time leapt over the moment at which its client gave up.
        if self._trace is not None:
            self.tell(running.name, f"{call}{f' ({fault})' if fault else ''}")
        if call.service == "lambda":
            return self._publish_now(running, fault)
        if fault is None:
            return self._answer(call, running)
        self.faults[fault] += 1
        if fault == LATE:
            # The call began at most a while ago, and a run of publish keeps its lease until it has ended.
            lands_at = self.cloud.now + self.random.uniform(0, running.called_at + LATE_SECONDS - self.cloud.now)
            self._late.append((lands_at, lambda: self._answer(call, running), running.name))
            raise fault_of("timeout")
        if fault == "repeated":
            self._answer(call, running)
            return self._answer(call, running)
        if comes_after(fault):
            self._answer(call, running)
        raise refusal("NoSuchEntity", "cannot be found", 404) if fault == "not there yet" else fault_of(fault)

    def _delays(self, call: Call, running: Running) -> tuple[float, ...]:
        """Return how long a call may take; publish's own clients give up sooner (`bootstrap`)."""
        if running.function == "publish" and call.service != "organizations":
            return (0.3, 3.0, 3.0, 12.0)
        return (0.3, 3.0, 3.0, 30.0, 300.0)

    def _publish_now(self, running: Running, fault: str | None) -> dict[str, Any]:
        """Have another function run, and wait for it as long as a client does."""
        if fault is not None and not comes_after(fault):
            self.faults[fault] += 1
            raise fault_of("throttled" if fault == "repeated" else fault)
        running.waits_for = self._start("publish", [], 1)
        running.ready_at = self.cloud.now + READ_TIMEOUT
        self._switch(running)
        invoked, running.waits_for = running.waits_for, None
        if fault is not None or invoked in self._running:
            raise fault_of("timeout")
        return {"StatusCode": 200}

    def _answer(self, call: Call, running: Running) -> dict[str, Any]:
        if call.service == "lambda":
            self._start("publish", [], 1)  # Its invoker was killed.
            return {}
        iam, members = self.cloud.iam, self.cloud.members
        if call.service == "organizations" and self.random.random() < self._outdated:
            members.seen_at = self.cloud.now - self.random.uniform(0, 30)
        if call.service == "iam" and call.name.startswith(("Get", "List")) and self.random.random() < self._staleness:
            iam.seen_at = self.cloud.now - self.random.uniform(0, 20)
        scope = self.cloud.scope if self.cloud.is_record(call) else None
        try:
            return self.cloud.answer(call, running.seen)
        finally:
            iam.seen_at = members.seen_at = None
            if call.name == "UpdateItem":
                self.changes.look_for_causes(running.name)
            if scope is not None and scope != self.cloud.scope:
                self.ways.add("scope changed")

    def _fault(self, call: Call) -> str | None:
        if self.random.random() >= self._failing:
            return None
        kinds = {"iam": _IN_IAM, "sts": _IN_STS}.get(call.service, _ANYWHERE)
        if self._current_function == "publish" and call.service in {"iam", "dynamodb"} and not is_read(call):
            kinds = (*kinds, LATE, LATE)
        if call.service == "iam" and call.name.startswith(("Put", "Attach", "Tag", "Update")):
            # Else it would be met too rarely: there are few such writes, and many kinds.
            kinds = (*kinds, *["not there yet"] * len(kinds))
        return self.random.choice(kinds)

    @property
    def _current_function(self) -> str:
        running = self._current()
        return running.function if running else ""

    def _current(self) -> Running | None:
        this = getcurrent()
        return next((each for each in self._running if each.greenlet is this), None)

    def _required(self) -> Running:
        running = self._current()
        if running is None or not running.alive:
            raise KilledError
        if self.cloud.broken is not None:
            raise RuleBrokenError(self.cloud.broken)
        return running

    def _switch(self, running: Running) -> None:
        running.greenlet.parent.switch()
        if not running.alive:
            raise KilledError

    # What happens.

    @property
    def settings(self) -> dict[str, str]:
        return self._settings

    def deploy(self, settings: dict[str, str]) -> None:
        """Let functions that begin from now on have these settings."""
        self._settings = self._base | settings
        self.tell("operator", f"deploys {self._settings}")

    @property
    def settings_in_force(self) -> list[dict[str, str]]:
        """List the settings that anything that runs just now may have."""
        return [self._settings, *(running.settings for running in self._running)]

    def tell(self, who: str, what: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.steps:6} {self.cloud.now - 1_800_000_000:10.2f} s  {who:16} {what}")

    def after(self, seconds: float, function: str, payload: Any, tries: int = 1) -> None:
        """Have a function invoked by and by."""
        self._number += 1
        self._due.append(Due(self.cloud.now + seconds, self._number, function, payload, tries))

    def run(self) -> None:
        """Live through the changes, then grow quiet, resync once, and check."""
        try:
            while self.changes.left or self._is_busy:
                self._advance()
            check_settled(self.cloud, self.ways)
            self.calm()
            if self.cloud.is_uninstalling or self._ends:
                self._uninstall()
                self._quietly("backfill", {})
            self._quietly("resync", {})
            # The scope changes once a resync finds every account recorded, and IAM is verified once it is consistent.
            self._quietly("resync", {}, after=RESYNC)
            deferred = self.last_answer["counts"]["deferred"]
            # Where the scope has changed, there is room for accounts that found none.
            self._quietly("rerun", {})
            check_room(self.cloud, self.changes)
            if deferred:
                # What the log of a resync that holds retirements back tells an operator to do, if that is right.
                self._quietly("backfill", {"accounts": "all", "force": True})
                # There may be room now for accounts that found none.
                self._quietly("rerun", {})
            self._quietly("resync", {}, after=RESYNC)
            self._quietly("resync", {"accounts": "new"}, after=RESYNC)
            check_quiet(self.cloud, settings_of(environ(**self._settings)), self.last_answer, self.changes)
        finally:
            for running in self._running:
                self._kill(running)
            self._running.clear()
            metrics.clear_metrics()

    def _uninstall(self) -> None:
        """Ask until nothing is left, or, after some tries, only what is out of reach; a resync mends what would be in the way."""
        self._quietly("resync", {})
        self._quietly("retire", UNINSTALL)
        check_uninstalled(self.cloud, settings_of(environ(**self._settings)), self.last_answer)

    def calm(self) -> None:
        """Let nothing fail from here on."""
        self._failing = self._killing = self._slowness = self._staleness = self._outdated = self._doubling = 0.0
        self._throttling = 0.0
        self.tell("calm", "")
        self.changes.give_names_back()
        self._batch = max(self._batch, 20)  # Many may be left to leave.
        self.cloud.pass_time(self.cloud.now + 7200)

    def _quietly(self, function: str, request: Any, after: float = 0.0) -> None:
        self.cloud.pass_time(self.cloud.now + after)
        self.last_answer = None
        self.after(0, function, request)
        self._advance()
        while self._is_busy:
            self._advance()
        self.cloud.require(f"{function} is answered where nothing disturbs it", self.last_answer is not None)

    @property
    def _is_busy(self) -> bool:
        return bool(self._running or self._due or self._late or self.cloud.queues.messages)

    @property
    def is_publishing(self) -> bool:
        """Whether a run of publish may write: one runs, or the last call of one that was killed has yet to land."""
        return bool(self.cloud.witness.publishing or self._late)

    def _advance(self) -> None:
        self.steps += 1
        self.cloud.require("all work is finished some day", self.steps < STEPS)
        self.cloud.pass_time(self.cloud.now + self.random.random() * 0.02)
        now = self.cloud.now
        for late in [each for each in self._late if each[0] <= now]:
            self._late.remove(late)
            self._land(late[1])
            if not any(running.name == late[2] for running in self._running):
                self.cloud.witness.publishing.pop(late[2], None)
        for due in [each for each in self._due if each.when <= now]:
            self._due.remove(due)
            self._begin(due)
        for running in [each for each in self._running if each.deadline <= now]:
            self._kill(running)
        if self.changes.left and self.random.random() < 0.02:
            self.changes.make_one()
        busy = sum(each.function == "enroll" for each in self._running)
        visible = self.cloud.queues.accounts.visible() if busy < self._workers else []
        ready: list[Running | str] = [each for each in self._running if self._is_ready(each)]
        ready += ["enroll"] * bool(visible) + ["publish"] * bool(self.cloud.queues.publish.visible())
        if not ready:
            self._pass_time(busy)
            return
        chosen = self.random.choice(ready)
        if chosen == "enroll":
            batch = self.random.sample(visible, min(len(visible), self._batch))
            self._deliver("enroll", self.cloud.queues.accounts, batch)
        elif isinstance(chosen, str):
            batch = self.cloud.queues.publish.visible()
            self._deliver("publish", self.cloud.queues.publish, batch[: self.random.randint(1, len(batch))])
        elif self.random.random() < self._killing:
            self.faults["killed"] += 1
            self._kill(chosen)
        else:
            self._resume(chosen)

    def _is_ready(self, running: Running) -> bool:
        waits_for = running.waits_for
        return running.ready_at <= self.cloud.now or (waits_for is not None and waits_for not in self._running)

    def _deliver(self, function: str, queue: Queue, batch: list[Queued]) -> None:
        """Hand messages to a function, which Lambda may start a while later where it is throttled."""
        records = queue.receive(batch, twice=function == "enroll" and self.random.random() < self._doubling)
        if not records:
            return
        if function == "publish" and self.random.random() < self._throttling:
            self.ways.add("late run")
            self.after(self.random.choice((10.0, 300.0, THROTTLED)), function, records)
        else:
            self._start(function, records, 1)

    def _begin(self, due: Due) -> None:
        if due.function == LET_IN:
            self.changes.let_in(due.payload)
        elif due.function == DEPLOY:
            self.deploy(due.payload)
        else:
            self._start(due.function, due.payload, due.tries)

    def _pass_time(self, busy: int) -> None:
        times = [min(each.ready_at, each.deadline) for each in self._running]
        times += [each[0] for each in self._late] + [each.when for each in self._due]
        queues = [self.cloud.queues.publish, *([self.cloud.queues.accounts] if busy < self._workers else [])]
        times += [when for queue in queues if (when := queue.next_at()) is not None]
        if self.changes.left and (not times or self.random.random() < 0.3):
            self.changes.make_one()
            self.cloud.pass_time(self.cloud.now + self.random.choice((0.1, 30.0, 1000.0, 20_000.0)))
        elif times:
            self.cloud.pass_time(max(self.cloud.now, min(times)))

    def _start(self, function: str, payload: Any, tries: int) -> Running:
        self._number += 1
        seconds = min(TIMEOUTS.get(function, TIMEOUT), max(self._seconds, 61.0))
        running = Running(
            f"{function}.{self._number}",
            function,
            payload,
            tries,
            self.cloud.now + seconds,
            self.random.uniform(-SKEW, SKEW),
            self.cloud.now,
            settings=self._settings,
        )
        metrics.clear_metrics()
        settings = settings_of(environ(**self._settings))
        running.seen = Seen(settings=settings, function=function, name=running.name, since=self.cloud.now)
        told = [each["body"] for each in payload] if function in {"enroll", "publish"} else payload
        self.tell(running.name, f"begins {told}")
        running.greenlet = greenlet(lambda: self._invoke(running), getcurrent())
        self._running.append(running)
        if settings.source_policy_scope is Scope.ORGANIZATION:
            self.ways.add("scope organization")
        if function == "publish":
            if self.cloud.witness.publishing:
                self.ways.add("overlapping runs")
            self.cloud.witness.publishing[running.name] = self.cloud.now
        elif function == "freeze" and payload.get("frozen"):
            self.ways.add("frozen")
        self._resume(running)
        return running

    def _resume(self, running: Running) -> None:
        running.greenlet.switch()
        if running.greenlet.dead and running in self._running:
            self._running.remove(running)
            self._ends_publishing(running.name)

    def _kill(self, running: Running) -> None:
        """Stop a function where it stands: its last call is lost, done, or lands late; its frames end without any effect."""
        pending, running.pending, running.alive = running.pending, None, False
        fate = self.random.choice(("lost", "done", "late"))
        self.tell(running.name, f"is killed; its last call is {fate}")
        if running.greenlet and not running.greenlet.dead:
            running.greenlet.throw(KilledError)
        if running in self._running:
            self._running.remove(running)
        if pending is not None and fate == "done":
            self._land(pending)
        elif pending is not None and fate == "late":
            # Time may have leapt over the moment at which it was stopped.
            stopped_at = min(self.cloud.now, running.deadline)
            lands_at = stopped_at + self.random.uniform(0, LATE_SECONDS)
            if running.function == "publish":
                lands_at = min(lands_at, running.called_at + LATE_SECONDS)
            self._late.append((lands_at, pending, running.name))
        self._ends_publishing(running.name)
        self._again(running)

    def _ends_publishing(self, name: str) -> None:
        if not any(name == late for _, _, late in self._late):
            self.cloud.witness.publishing.pop(name, None)

    def _land(self, effect: Callable[[], Any]) -> None:
        try:
            effect()
        except ClientError:
            self.tell("late", "is refused")

    def _again(self, running: Running) -> None:
        """Have what Lambda or EventBridge runs by itself run again, as often as they do, and an operator ask again."""
        self.changes.asked(running, None)
        if running.function == "on_account_event" and running.tries < TRIES:
            self.after(60 * running.tries, running.function, running.payload, running.tries + 1)

    def _invoke(self, running: Running) -> None:
        application = self._boundary.application(environ(**running.settings))
        context = Context(running.name, lambda: running.deadline - self.cloud.now)
        try:
            if running.function == "on_account_event":
                application.enqueue(running.payload)
            else:
                answer = getattr(application, running.function)(running.payload, context)
                if running.function == "enroll":
                    self.cloud.queues.accounts.settle(running.payload, answer)
                elif running.function == "publish":
                    self.cloud.queues.publish.settle(running.payload, answer)
                else:
                    self.last_answer = answer
                    self.changes.asked(running, answer)
        except KilledError:
            return
        except (RolecallError, ClientError, BotoCoreError) as error:
            self.tell(running.name, f"raises {error!r}")
            self._again(running)
        except Exception as error:  # noqa: BLE001 - no other class of exception is ever raised
            self.cloud.broken = f"no function raises {error!r}"
        self.tell(running.name, "ends")

    def event(self, event: dict[str, Any]) -> None:
        """Let EventBridge deliver an event: maybe never, maybe late, maybe twice."""
        if self.random.random() < self._losing:
            self.faults["event lost"] += 1
            return
        for _ in range(self.random.choice((1, 1, 1, 2))):
            self.after(self.random.choice((0.5, 5.0, 120.0, 3000.0)), "on_account_event", event)


def first_broken(boundary: Boundary, seeds: Any, rule: str = "") -> tuple[str | None, Counter[str]]:
    """Run seeds up to the first that breaks a rule (of such words); tell how that comes about, and what was met on the way."""
    met: Counter[str] = Counter()
    for seed in seeds:
        met["seeds"] += 1
        life = Life(boundary, seed)
        broken = _broken_by(life)
        met.update(life.faults)
        met.update(life.ways)
        met["steps"] += life.steps
        if broken is not None and rule in broken:
            story: list[str] = []
            _broken_by(Life(boundary, seed, story.append))
            return "\n".join([*story, f"ROLECALL_SEED={seed} breaks the rule: {broken}"]), met
    return None, met


def _broken_by(life: Life) -> str | None:
    try:
        life.run()
    except RuleBrokenError as broken:
        return str(broken)
    return life.cloud.broken
