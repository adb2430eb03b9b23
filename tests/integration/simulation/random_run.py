"""A run in which a seed decides everything: what changes, and how functions run in parallel, fail and are killed.

Once nothing fails any more and a full resync has run, the invariants must hold.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any

from chalicelib.telemetry import metrics
from tests.integration.simulation import invariants
from tests.integration.simulation.calls import InvariantError
from tests.integration.simulation.causes import Causes
from tests.integration.simulation.changes import RESTORED, Changes
from tests.integration.simulation.cloud import LOSSES, SOURCE, START, Cloud, source_principal
from tests.integration.simulation.environment import (
    BROKEN_POLICIES,
    LONGEST_TIMEOUT_SECONDS,
    ROLE_SETTINGS,
    environ,
    settings_of,
)
from tests.integration.simulation.full_shard import fill_shard
from tests.integration.simulation.functions import Functions, Invocation
from tests.integration.simulation.harness import Harness
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.operators import Operators
from tests.integration.simulation.queues import Queue, Queued
from tests.integration.simulation.simulated_stage import UNINSTALL

CONDITIONS = (
    *("scope organization", "scope changed", "separate source account", "full shard", "foreign source policy"),
    *("uninstalled", "outdated organization", "overlapping runs", "late run", "frozen", "waves", *LOSSES, RESTORED),
    "scope none",
)
"""What a run may meet; each is counted once per seed."""
WAVES = 12  # more than the accounts, of which each wave changes one at least
MAX_STEPS = 300_000  # several times what any seed takes
RESYNC_SECONDS = 3600.0  # between two resyncs, after which IAM's reads show what was written
_SCOPE_NONE_EVERY = 20  # seeds
_FIRST_SCOPE_NONE = 5  # with which the tested seeds still meet every condition
THROTTLED_SECONDS = 700.0  # after which Lambda may still start a batch that it received
ASYNCHRONOUS_TRIES = 3  # of Lambda, for an asynchronous invocation that fails


class Rates:
    """How often the functions of a run fail, and how they are configured."""

    def __init__(self, random: Random) -> None:
        self.workers = random.randint(2, 4)
        self.batch = random.randint(1, 5)
        self.failing = random.choice((0.0, 0.01, 0.03, 0.1))
        self.killing = random.choice((0.0, 0.005, 0.02))
        self.slow = random.choice((0.0, 0.02, 0.1))
        self.stale = random.choice((0.0, 0.2, 0.5))
        self.outdated = random.choice((0.0, 0.0, 0.3))
        self.doubling = random.choice((0.0, 0.2))
        self.returns_paths = random.random() < 0.8
        self.losing = random.choice((0.0, 0.15))
        self.timeout_seconds = random.choice((120.0, LONGEST_TIMEOUT_SECONDS))
        self.throttling = random.choice((0.0, 0.0, 0.2))
        self.uninstalls = random.random() < 0.1  # at the end, to be enrolled again

    def stop_faults(self) -> None:
        self.failing = self.killing = self.slow = self.stale = self.outdated = self.doubling = self.throttling = 0.0
        self.batch = max(self.batch, 20)  # many accounts may have to be revoked


class RandomRun:
    """The run of one seed."""

    def __init__(self, harness: Harness, seed: int, trace: list[str] | None = None) -> None:
        self.random = Random(seed)  # noqa: S311 - repeatable, not secret
        # A source of its own: the other choices of a seed stay the same.
        self._random_of_waves = Random(~seed)  # noqa: S311
        # By the seed's number, so that all other seeds decide as before.
        self.has_source_policy = seed % _SCOPE_NONE_EVERY != _FIRST_SCOPE_NONE
        self.faults: Counter[str] = Counter()
        self.conditions: set[str] = set()
        self._base_settings, self.cloud = self._setup()
        self.harness, self.trace = harness, trace
        self.settings = self._base_settings
        self._scheduled: list[tuple[float, Callable[[], object]]] = []
        self.steps = 0
        self.rates = Rates(self.random)
        self.cloud.members.returns_paths = self.rates.returns_paths
        if self.rates.outdated:
            self.conditions.add("outdated organization")
        self._response: Any = None
        self._functions = Functions(self)
        harness.start(self._functions)
        self.causes = Causes(self)
        self.operators = Operators(self)
        self._changes = Changes(self, self.random.randint(6, 14))
        if "waves" in self.conditions:
            self._schedule_rollouts()

    def _setup(self) -> tuple[dict[str, str], Cloud]:
        """Choose what no later deployment changes."""
        settings: dict[str, str] = {}
        if self.random.random() < 0.2:
            settings["SOURCE_POLICY_SCOPE"] = "organization"
        if self._random_of_waves.random() < 0.2:
            settings["ROLLOUT_PERCENT"] = "10"
            self.conditions.add("waves")
        source_account = MANAGEMENT
        if self.random.random() < 0.15:
            source_account = SOURCE
            settings["SOURCE_PRINCIPAL_ARNS"] = source_principal(SOURCE)
            self.conditions.add("separate source account")
        cloud = Cloud(source_account)
        if not self.has_source_policy:
            settings["SOURCE_POLICY_SCOPE"] = "none"
            self.conditions.add("scope none")
            return settings, cloud
        if self.random.random() < 0.1:
            parsed = settings_of(environ(**{**settings, "SOURCE_POLICY_SCOPE": "accounts"}))
            fill_shard(cloud, parsed, free=self.random.randint(0, 3), others=self.random.choice((0, 8, 9)))
            self.conditions.add("full shard")
        return settings, cloud

    # What others may do.

    def log(self, source: str, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.steps:6} {self.cloud.now - START:10.2f} s  {source:16} {text}")

    def deploy(self, settings: dict[str, str]) -> None:
        """Set the settings of functions that start from now on."""
        if not self.has_source_policy:
            settings = settings | {"SOURCE_POLICY_SCOPE": "none"}
        self.settings = self._base_settings | settings
        self.log("operator", f"deploys {self.settings}")

    @property
    def settings_in_use(self) -> list[dict[str, str]]:
        """The deployed settings, and those of running functions."""
        return [self.settings, *(invocation.variables for invocation in self._functions.running)]

    @property
    def is_publishing(self) -> bool:
        """Whether a run of publish may write: one runs, or the last call of one has yet to take effect."""
        return bool(self.cloud.checks.publishing or self._functions.late)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self._scheduled.append((self.cloud.now + seconds, act))

    def schedule(self, seconds: float, function: str, payload: Any, tries: int = 1) -> None:
        """Invoke a function later: for an event, a schedule or an operator."""
        self.after(seconds, lambda: self._functions.start(function, payload, tries))

    def finish(self, invocation: Invocation, response: Any) -> None:
        self._response = response
        unchanged = self.cloud.edited_at < invocation.since and self.cloud.control().get("frozen") is True
        if invocation.function == "freeze" and unchanged:
            self.cloud.check_freeze(response)
        self.operators.continue_uninstall(invocation, response)

    def retry(self, invocation: Invocation) -> None:
        """Schedule the retry of a failed invocation by Lambda, EventBridge or an operator."""
        self.operators.continue_uninstall(invocation, None)
        if invocation.function == "on_account_event" and invocation.tries < ASYNCHRONOUS_TRIES:
            self.schedule(60 * invocation.tries, invocation.function, invocation.payload, invocation.tries + 1)

    # The run.

    def run(self) -> None:
        """Make the changes, stop the faults, converge, and check the invariants."""
        try:
            while self._changes.left or self._is_busy:
                self._advance()
            invariants.check_nothing_to_publish(self.cloud, self.conditions)
            self._stop_faults()
            if self.cloud.is_uninstalling or self.rates.uninstalls:
                self._uninstall()
                self._complete("backfill", {})
            self._converge()
            self.cloud.checks.is_converged = True
            self._complete("resync", {}, after=RESYNC_SECONDS)
            invariants.check_converged(self.cloud, settings_of(environ(**self.settings)), self._response, self.causes)
            invariants.check_announced(self.cloud)
        finally:
            self._functions.abandon()
            metrics.clear_metrics()

    def _converge(self) -> None:
        self._complete("resync", {})
        # The scope changes once a resync finds every account recorded, and IAM is verified once its reads are consistent.
        self._complete("resync", {}, after=RESYNC_SECONDS)
        deferred = self._response["counts"]["deferred"]
        # After a change of the scope, there may be room for more accounts.
        self._complete("rerun", {})
        invariants.check_room(self.cloud, self.causes)
        if deferred:
            # As the log of a resync that defers retirements asks an operator to do.
            self._complete("backfill", {"accounts": "all", "force": True})
            self._complete("rerun", {})
        self._complete("resync", {}, after=RESYNC_SECONDS)
        self._complete("resync", {"accounts": "new"}, after=RESYNC_SECONDS)
        if "waves" in self.conditions:
            self._complete_rollout()

    def _schedule_rollouts(self) -> None:
        random = self._random_of_waves
        for number in range(random.randint(1, 4)):
            settings = random.choice(ROLE_SETTINGS)
            at = 20_000.0 * number + random.choice((100.0, 3000.0, 10_000.0))
            self.after(at, partial(self.deploy, settings))
            for wave in range(random.randint(0, 3)):
                self.schedule(at + 1800.0 * wave + 1.0, "resync", {"accounts": random.choice(("all", "new"))})

    def _complete_rollout(self) -> None:
        """Continue a rollout to its last wave; an operator ends one that is stopped by accounts which still fail."""
        for _ in range(WAVES):
            if not self._response["counts"]["rollout_waiting"]:
                break
            self._complete("resync", {"accounts": "new"}, after=RESYNC_SECONDS)
        else:
            failing = any("attempted_fingerprint" in row for row in self.cloud.rows().values())
            self.cloud.require("a rollout without failures ends", failing)
            self.conditions.add("rollout stopped")
            self.deploy({**self.settings, "ROLLOUT_PERCENT": "100"})
            self._complete("resync", {}, after=RESYNC_SECONDS)
        self._complete("resync", {}, after=RESYNC_SECONDS)

    def _uninstall(self) -> None:
        """Uninstall, after a resync has repaired what would prevent it."""
        self._complete("resync", {})
        self._complete("retire", UNINSTALL)
        invariants.check_uninstalled(self.cloud, settings_of(environ(**self.settings)), self._response)

    def _stop_faults(self) -> None:
        self.rates.stop_faults()
        if BROKEN_POLICIES.items() <= self.settings.items():
            self.deploy({})
        self.log("faults", "stop")
        self._changes.delete_foreign_policies()
        self.cloud.pass_time(self.cloud.now + 7200)

    def _complete(self, function: str, request: Any, after: float = 0.0) -> None:
        """Invoke a function, and wait until everything that it started has ended."""
        self.cloud.pass_time(self.cloud.now + after)
        self._response = None
        self.schedule(0, function, request)
        self._advance()
        while self._is_busy:
            self._advance()
        self.cloud.require(f"{function} succeeds without faults", self._response is not None)

    @property
    def _is_busy(self) -> bool:
        functions = self._functions
        return bool(functions.running or self._scheduled or functions.late or self.cloud.queues.messages)

    def _advance(self) -> None:
        """Take one step of any function."""
        self.steps += 1
        cloud, random, functions = self.cloud, self.random, self._functions
        cloud.require("all work ends", self.steps < MAX_STEPS)
        cloud.pass_time(cloud.now + random.random() * 0.02)
        functions.apply_late_calls()
        for scheduled in [each for each in self._scheduled if each[0] <= cloud.now]:
            self._scheduled.remove(scheduled)
            scheduled[1]()
        functions.kill_overdue()
        if self._changes.left and random.random() < 0.02:
            self._changes.make_one()
        has_worker = functions.count("enroll") < self.rates.workers
        visible = cloud.queues.accounts.visible() if has_worker else []
        ready: list[Invocation | str] = [*functions.ready]
        ready += ["enroll"] * bool(visible) + ["publish"] * bool(cloud.queues.publish.visible())
        if not ready:
            self._pass_time(has_worker=has_worker)
            return
        chosen = random.choice(ready)
        if chosen == "enroll":
            messages = random.sample(visible, min(len(visible), self.rates.batch))
            self._deliver("enroll", cloud.queues.accounts, messages)
        elif isinstance(chosen, str):
            messages = cloud.queues.publish.visible()
            self._deliver("publish", cloud.queues.publish, messages[: random.randint(1, len(messages))])
        elif random.random() < self.rates.killing:
            self.faults["killed"] += 1
            functions.kill(chosen)
        else:
            functions.resume(chosen)

    def _deliver(self, function: str, queue: Queue, messages: list[Queued]) -> None:
        """Deliver messages to a function, which Lambda may start later if it is throttled."""
        twice = function == "enroll" and self.random.random() < self.rates.doubling
        records = queue.receive(messages, twice=twice)
        if not records:
            return
        if function == "publish" and self.random.random() < self.rates.throttling:
            self.conditions.add("late run")
            self.schedule(self.random.choice((10.0, 300.0, THROTTLED_SECONDS)), function, records)
        else:
            self._functions.start(function, records, 1)

    def _pass_time(self, *, has_worker: bool) -> None:
        """Pass time until something happens, or make a change."""
        times = [min(each.ready_at, each.deadline) for each in self._functions.running]
        times += [each.at for each in self._functions.late] + [at for at, _ in self._scheduled]
        queues = [self.cloud.queues.publish, *([self.cloud.queues.accounts] if has_worker else [])]
        times += [at for queue in queues if (at := queue.next_at()) is not None]
        if self._changes.left and (not times or self.random.random() < 0.3):
            self._changes.make_one()
            self.cloud.pass_time(self.cloud.now + self.random.choice((0.1, 30.0, 1000.0, 20_000.0)))
        elif times:
            self.cloud.pass_time(max(self.cloud.now, min(times)))


def first_violation(harness: Harness, seeds: Iterable[int], invariant: str = "") -> tuple[str | None, Counter[str]]:
    """Run seeds until one violates an invariant that contains a text. Return its trace, or None, and what was met."""
    met: Counter[str] = Counter()
    for seed in seeds:
        run = RandomRun(harness, seed)
        violated = _violated_by(run)
        met.update({"seeds": 1, "steps": run.steps} | run.faults)
        met.update(run.conditions)
        if violated is not None and invariant in violated:
            trace: list[str] = []
            _violated_by(RandomRun(harness, seed, trace))
            return "\n".join([*trace, f"ROLECALL_SEED={seed} violates the invariant: {violated}"]), met
    return None, met


def _violated_by(run: RandomRun) -> str | None:
    try:
        run.run()
    except InvariantError as error:
        return str(error)
    return run.cloud.violated
