"""The running functions of a random run, each in a greenlet that switches at every call.

At a call others run, time passes, the call or its response is lost, or the function is killed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from greenlet import getcurrent, greenlet

from chalicelib.errors import RolecallError
from chalicelib.settings import Scope
from chalicelib.telemetry import metrics
from tests.integration.simulation.calls import Call, Caller, InvariantError
from tests.integration.simulation.environment import LambdaContext, describe, environ, settings_of, timeout_seconds
from tests.integration.simulation.faults import LATE, KilledError, error_of, takes_effect_first

if TYPE_CHECKING:
    from tests.integration.simulation.random_run import RandomRun

READ_TIMEOUT_SECONDS = 10.0  # of freeze's call of publish (`invoke_config`)
INDEX_SECONDS = 20_000.0  # by which the tagging API's index may lag behind
SKEW_SECONDS = 5.0  # by which a function's clock may be wrong
LATE_SECONDS = 15.0  # until the last call of a killed function takes effect at the latest

_ANYWHERE = ("throttled", "5xx", "reset", "timeout", "timeout after", "5xx after", "repeated")
_IN_IAM = (*_ANYWHERE, "denied", "concurrent", "expired", "quota", "scp")
_IN_STS = (*_ANYWHERE, "denied", "expired")


@dataclass(eq=False, kw_only=True)
class Invocation(Caller):
    """A running function."""

    payload: Any
    tries: int
    variables: dict[str, str]
    deadline: float
    skew: float
    ready_at: float
    greenlet: Any = None
    pending: Callable[[], Any] | None = None  # its current call
    called_at: float = 0.0
    waits_for: "Invocation | None" = None


@dataclass(eq=False)
class LateCall:
    """A call that takes effect after its function has ended, or has given it up."""

    at: float
    effect: Callable[[], Any]
    caller: str


class Invocations:
    """Starts, resumes and kills functions."""

    def __init__(self, run: "RandomRun") -> None:
        self._run, self._cloud = run, run.cloud
        self._random, self._rates = run.random, run.rates
        self._started = 0
        self.running: list[Invocation] = []
        self.late: list[LateCall] = []

    @property
    def ready(self) -> list[Invocation]:
        return [each for each in self.running if self._is_ready(each)]

    def _is_ready(self, invocation: Invocation) -> bool:
        awaited = invocation.waits_for
        return invocation.ready_at <= self._cloud.now or (awaited is not None and awaited not in self.running)

    def count(self, function: str) -> int:
        return sum(each.function == function for each in self.running)

    def start(self, function: str, payload: Any, tries: int) -> Invocation:
        self._started += 1
        run, now = self._run, self._cloud.now
        settings = settings_of(environ(**run.settings))
        invocation = Invocation(
            function=function,
            name=f"{function}.{self._started}",
            settings=settings,
            since=now,
            payload=payload,
            tries=tries,
            variables=run.settings,
            deadline=now + min(timeout_seconds(function), self._rates.timeout_seconds),
            skew=self._random.uniform(-SKEW_SECONDS, SKEW_SECONDS),
            ready_at=now,
        )
        metrics.clear_metrics()
        run.log(invocation.name, f"begins {describe(function, payload)}")
        invocation.greenlet = greenlet(lambda: self._execute(invocation), getcurrent())
        self.running.append(invocation)
        if settings.source_policy_scope is Scope.ORGANIZATION:
            run.conditions.add("scope organization")
        if function == "publish":
            publishing = self._cloud.checks.publishing
            run.conditions |= {"overlapping runs"} if publishing else set()
            publishing[invocation.name] = now
        elif function == "freeze" and payload.get("frozen"):
            run.conditions.add("frozen")
        self.resume(invocation)
        return invocation

    def resume(self, invocation: Invocation) -> None:
        invocation.greenlet.switch()
        if invocation.greenlet.dead and invocation in self.running:
            self.running.remove(invocation)
            self._end_publishing(invocation.name)

    def kill(self, invocation: Invocation) -> None:
        """Kill a function: its current call is lost, takes effect, or takes effect late."""
        pending, invocation.pending, invocation.is_killed = invocation.pending, None, True
        fate = self._random.choice(("lost", "done", "late"))
        self._run.log(invocation.name, f"is killed; its last call is {fate}")
        if invocation.greenlet and not invocation.greenlet.dead:
            invocation.greenlet.throw(KilledError)
        if invocation in self.running:
            self.running.remove(invocation)
        if pending is not None and fate == "done":
            self._apply(pending)
        elif pending is not None and fate == "late":
            # Time may have passed its deadline.
            killed_at = min(self._cloud.now, invocation.deadline)
            at = killed_at + self._random.uniform(0, LATE_SECONDS)
            if invocation.function == "publish":
                at = min(at, invocation.called_at + LATE_SECONDS)
            self.late.append(LateCall(at, pending, invocation.name))
        self._end_publishing(invocation.name)
        self._run.retry(invocation)

    def abandon(self) -> None:
        """End all frames, without any effect."""
        for invocation in self.running:
            invocation.is_killed = True
            if not invocation.greenlet.dead:
                invocation.greenlet.throw(KilledError)
        self.running.clear()

    def kill_overdue(self) -> None:
        for invocation in [each for each in self.running if each.deadline <= self._cloud.now]:
            self.kill(invocation)

    def apply_late_calls(self) -> None:
        for call in [each for each in self.late if each.at <= self._cloud.now]:
            self.late.remove(call)
            self._apply(call.effect)
            if not any(each.name == call.caller for each in self.running):
                self._cloud.checks.publishing.pop(call.caller, None)

    def _end_publishing(self, name: str) -> None:
        if not any(name == call.caller for call in self.late):
            self._cloud.checks.publishing.pop(name, None)

    def _apply(self, effect: Callable[[], Any]) -> None:
        try:
            effect()
        except ClientError:
            self._run.log("late", "is rejected")

    def _execute(self, invocation: Invocation) -> None:
        """Run the function, in its greenlet."""
        run, queues = self._run, self._cloud.queues
        application = run.harness.application(environ(**invocation.variables))
        context = LambdaContext(invocation.name, lambda: invocation.deadline - self._cloud.now)
        try:
            if invocation.function == "on_account_event":
                application.enqueue(invocation.payload)
            else:
                response = getattr(application, invocation.function)(invocation.payload, context)
                if invocation.function in {"enroll", "publish"}:
                    queue = queues.accounts if invocation.function == "enroll" else queues.publish
                    queue.delete_finished(invocation.payload, response)
                else:
                    run.finish(invocation, response)
        except KilledError:
            return
        except (RolecallError, ClientError, BotoCoreError) as error:
            run.log(invocation.name, f"raises {error!r}")
            run.retry(invocation)
        except Exception as error:  # noqa: BLE001 - no other class of exception is ever raised
            self._cloud.violated = f"no function raises {error!r}"
        run.log(invocation.name, "ends")


class Functions(Invocations):
    """Handles the calls of functions, as the harness's backend."""

    def clock(self) -> float:
        invocation = self._current()
        return self._cloud.now + (invocation.skew if invocation else 0.0)

    def pause(self, seconds: float) -> None:
        invocation = self._live()
        invocation.ready_at = self._cloud.now + seconds
        self._switch(invocation)

    def call(self, call: Call) -> dict[str, Any]:
        invocation, cloud = self._live(), self._cloud
        if self._random.random() < self._rates.slow:
            # The clients of publish give up sooner (`bootstrap`).
            gives_up = invocation.function == "publish" and call.service != "organizations"
            delays = (0.3, 3.0, 3.0, 12.0) if gives_up else (0.3, 3.0, 3.0, 30.0, 300.0)
            invocation.ready_at = cloud.now + self._random.choice(delays)
        invocation.called_at = cloud.now
        invocation.pending = lambda: self._answer(call, invocation)
        self._switch(invocation)
        invocation.pending = None
        fault = self._fault(call, invocation)
        if invocation.function == "publish" and cloud.now > invocation.called_at + LATE_SECONDS:
            fault = "timeout"  # Time passed the moment at which its client gave up.
        if self._run.trace is not None:
            self._run.log(invocation.name, f"{call}{f' ({fault})' if fault else ''}")
        if call.service == "lambda":
            return self._invoke_publish(invocation, fault)
        if fault is None:
            return self._answer(call, invocation)
        self._run.faults[fault] += 1
        if fault == LATE:
            # It began some time ago, and publish keeps its lease until it can't take effect any more.
            at = cloud.now + self._random.uniform(0, invocation.called_at + LATE_SECONDS - cloud.now)
            self.late.append(LateCall(at, lambda: self._answer(call, invocation), invocation.name))
            raise error_of("timeout")
        if fault == "repeated":
            self._answer(call, invocation)
            return self._answer(call, invocation)
        if takes_effect_first(fault):
            self._answer(call, invocation)
        raise error_of(fault)

    def _invoke_publish(self, invocation: Invocation, fault: str | None) -> dict[str, Any]:
        """Run publish, and wait for it until the client's read timeout."""
        if fault is not None and not takes_effect_first(fault):
            self._run.faults[fault] += 1
            raise error_of("throttled" if fault == "repeated" else fault)
        publish = invocation.waits_for = self.start("publish", [], 1)
        invocation.ready_at = self._cloud.now + READ_TIMEOUT_SECONDS
        self._switch(invocation)
        invocation.waits_for = None
        if fault is not None or publish in self.running:
            raise error_of("timeout")
        return {"StatusCode": 200}

    def _answer(self, call: Call, invocation: Invocation) -> dict[str, Any]:
        if call.service == "lambda":
            self.start("publish", [], 1)  # by an invoker that was killed
            return {}
        cloud, random, rates = self._cloud, self._random, self._rates
        if call.service == "organizations" and random.random() < rates.outdated:
            cloud.members.read_at = cloud.now - random.uniform(0, 30)
        if call.service == "resourcegroupstaggingapi" and rates.outdated:
            cloud.members.indexed_at = cloud.now - random.uniform(0, INDEX_SECONDS)
        if call.service == "iam" and call.is_read and random.random() < rates.stale:
            cloud.iam.read_at = cloud.now - random.uniform(0, 20)
        scope = cloud.scope if call.writes_record else None
        if call.params.get("Key") == {"policy_name": {"S": "#control"}}:
            self._run.causes.note()  # an uninstall that the call lifts was in effect until now
        try:
            return cloud.answer(call, invocation)
        finally:
            cloud.iam.read_at = cloud.members.read_at = cloud.members.indexed_at = None
            if call.name == "UpdateItem":
                self._run.causes.check(invocation.name, invocation.since)
            if scope is not None and scope != cloud.scope:
                self._run.conditions.add("scope changed")

    def _fault(self, call: Call, invocation: Invocation) -> str | None:
        if self._random.random() >= self._rates.failing:
            return None
        faults = {"iam": _IN_IAM, "sts": _IN_STS}.get(call.service, _ANYWHERE)
        if invocation.function == "publish" and call.service in {"iam", "dynamodb"} and not call.is_read:
            faults = (*faults, LATE, LATE)
        if call.service == "iam" and call.name.startswith(("Put", "Attach", "Tag", "Update")):
            # Few calls are such writes: else it would be met too rarely.
            faults = (*faults, *["not there yet"] * len(faults))
        return self._random.choice(faults)

    def _current(self) -> Invocation | None:
        this = getcurrent()
        return next((each for each in self.running if each.greenlet is this), None)

    def _live(self) -> Invocation:
        invocation = self._current()
        if invocation is None or invocation.is_killed:
            raise KilledError
        if self._cloud.violated is not None:
            raise InvariantError(self._cloud.violated)
        return invocation

    def _switch(self, invocation: Invocation) -> None:
        invocation.greenlet.parent.switch()
        if invocation.is_killed:
            raise KilledError
