"""A stage whose functions run one after the other, with one fault at one call, after which its callers retry."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import RolecallError
from chalicelib.telemetry import metrics
from tests.integration.simulation import faults
from tests.integration.simulation.calls import Call, Caller
from tests.integration.simulation.cloud import Cloud
from tests.integration.simulation.environment import (
    LambdaContext,
    describe,
    environ,
    event,
    settings_of,
    timeout_seconds,
)
from tests.integration.simulation.faults import LATE, OVERLAP, KilledError
from tests.integration.simulation.harness import Harness

REQUESTS = 60  # of an operator or a schedule, before the scenario fails
BATCHES = 2000  # after which the queues must be empty
SCHEDULE_SECONDS = {"resync": 86_400.0, "rerun": 3600.0}
RETRY_SECONDS = 61.0  # until an operator, or EventBridge, tries again
CALL_SECONDS = 0.2
WRITE_SECONDS = 14.0  # until a write of publish takes effect at the latest (`publish_config`)
READ_SECONDS = 25.0  # that a read may take, to outlast the lease
GIVE_UP_SECONDS = 7.0  # after which publish gives up a call without a response
UNINSTALL = {"accounts": "all", "force": True}
SCHEDULED_EVENT = {"source": "aws.events", "detail-type": "Scheduled Event"}

Predicate = Callable[[Call], bool]


@dataclass
class SimulatedStage:
    """A stage with its own cloud; `fault` is the number of the call that meets it, and its kind."""

    harness: Harness
    settings: dict[str, str] = field(default_factory=dict)
    cloud: Cloud = field(default_factory=Cloud)
    calls: int = 0
    fault: tuple[int, str] | None = None
    kill_after: Predicate = lambda _: False  # the first call, after which its function is killed
    interleave: tuple[Predicate, Callable[["SimulatedStage"], None]] | None = None  # what happens once, before a call
    fault_met: bool = False
    trace: list[str] = field(default_factory=list)
    distinct: set[tuple[int, str]] = field(default_factory=set)  # the faults that leave distinct states
    _stack: list[Caller] = field(default_factory=list)
    _invocations: int = 0
    _late: list[tuple[float, Call, Caller]] = field(default_factory=list)

    # The harness's backend.

    def clock(self) -> float:
        return self.cloud.now

    def pause(self, seconds: float) -> None:
        self.cloud.pass_time(self.cloud.now + seconds)

    def call(self, call: Call) -> dict[str, Any]:
        self._apply_late_calls()
        caller = self._stack[-1]
        if caller.is_killed:
            raise KilledError
        self.calls += 1
        self.pause(CALL_SECONDS)
        self.trace.append(f"{self.calls:4} {call}")
        self.distinct |= {(self.calls, fault) for fault in faults.distinct_faults(call, caller)}
        caller.calls += 1
        if self.interleave is not None and self.interleave[0](call):
            (_, act), self.interleave = self.interleave, None
            act(self)
        fault = self._fault(call, caller)
        if fault is None:
            return self._answer(call)
        self.fault_met = True
        self.trace.append(f"     {fault}")
        return self._disturbed(call, fault, caller)

    def _fault(self, call: Call, caller: Caller) -> str | None:
        if self.fault is not None and self.fault[0] == self.calls:
            fault = self.fault[1]
            possible = caller.function == "publish" or fault not in {OVERLAP, LATE}
            return fault if possible and not (fault == LATE and call.is_read) else None
        if self.kill_after(call):
            self.kill_after = lambda _: False
            return "killed after"
        return None

    def _disturbed(self, call: Call, fault: str, caller: Caller) -> dict[str, Any]:
        """Return the response to a call that meets a fault, or raise."""
        if fault == OVERLAP:
            self._overlap(call)
            return self._answer(call)
        if fault == LATE:
            self._late.append((self.cloud.now + WRITE_SECONDS, call, caller))
            self.pause(GIVE_UP_SECONDS)
            raise faults.error_of("timeout")
        if fault == "repeated":
            self._answer(call)
            return self._answer(call)
        if faults.takes_effect_first(fault):
            self._answer(call)
        if fault in faults.KILLS:
            caller.is_killed = True
            raise KilledError
        raise faults.error_of(fault)

    def _apply_late_calls(self) -> None:
        while self._late and self._late[0][0] <= self.cloud.now:
            _, call, caller = self._late.pop(0)
            self.trace.append(f"     {call} of {caller.name} takes effect")
            with suppress(ClientError):
                self.cloud.answer(call, caller)

    def _answer(self, call: Call) -> dict[str, Any]:
        if call.service == "lambda":
            return self._invoke_publish()
        return self.cloud.answer(call, self._stack[-1])

    def _invoke_publish(self) -> dict[str, Any]:
        """Run publish while its invoker waits."""
        try:
            response = self.invoke("publish", [])
        except KilledError:
            return {"StatusCode": 200, "FunctionError": "Unhandled"}
        return {"StatusCode": 200, "Payload": json.dumps(response)}

    def _overlap(self, call: Call) -> None:
        """Delay a call, and run publish a second time meanwhile, as after a visibility timeout."""
        self.pause(READ_SECONDS if call.is_read else WRITE_SECONDS)
        self.fault = None
        with suppress(KilledError):
            self.invoke("publish", [])

    # Invocations.

    def invoke(self, function: str, payload: Any) -> Any:
        """Run a function, and return or raise what it does; KilledError if it is killed."""
        variables = environ(**self.settings)
        self.harness.backend = self
        self._invocations += 1
        name = f"{function}.{self._invocations}.{self.calls}"
        deadline = self.cloud.now + timeout_seconds(function)
        context = LambdaContext(name, lambda: deadline - self.cloud.now)
        application = self.harness.application(variables)
        metrics.clear_metrics()
        self.trace.append(f"  {function} {describe(function, payload)}")
        self._stack.append(Caller(function, name, settings_of(variables), self.cloud.now))
        publishing = self.cloud.checks.publishing
        if function == "publish":
            publishing[name] = self.cloud.now
        try:
            if function == "on_account_event":
                return application.enqueue(payload)
            if function == "announce_outcome":
                return self.harness.announcer(variables)(payload)
            response = getattr(application, function)(payload, context)
            if function == "freeze":
                self.cloud.check_freeze(response)
            return response
        finally:
            self._stack.pop()
            publishing.pop(name, None)

    def request(self, function: str, request: Any) -> Any:
        """Invoke a function until it succeeds, as an operator, a schedule or EventBridge does."""
        for _ in range(REQUESTS):
            try:
                return self.invoke(function, request)
            except (KilledError, RolecallError, ClientError, BotoCoreError) as error:
                self.trace.append(f"  raises {error!r}")
                self.pause(SCHEDULE_SECONDS.get(function, RETRY_SECONDS))
        message = f"{function} {request} never succeeded"
        raise AssertionError(message)

    def send_events(self, *account_ids: str) -> None:
        for account_id in account_ids:
            self.request("on_account_event", event(account_id))

    def drain(self) -> None:
        """Deliver batches, as Lambda does, until both queues are empty."""
        queues = self.cloud.queues
        for _ in range(BATCHES):
            if queues.publish.visible():
                self.deliver("publish")
            elif queues.accounts.visible():
                self.deliver("enroll")
            elif queues.messages:
                self.cloud.pass_time(queues.next_at())
            else:
                self._apply_late_calls()
                return
        message = "the queues are never empty"
        raise AssertionError(message)

    def deliver(self, function: str) -> None:
        """Invoke a function with one batch of its queue, if a message is visible."""
        queues = self.cloud.queues
        queue = queues.publish if function == "publish" else queues.accounts
        records = queue.receive(queue.visible()[:10])
        if not records:
            return
        try:
            queue.delete_finished(records, self.invoke(function, records))
        except KilledError:
            return
        self.pause(1)

    def resync(self, request: Any = None) -> None:
        self.request("resync", request or {})
        self.drain()

    def run_schedules(self) -> None:
        """Run the schedules of a day."""
        self.pause(86_400)
        self.request("rerun", SCHEDULED_EVENT)
        self.drain()
        self.resync(SCHEDULED_EVENT)

    def expect(self, invariant: str, holds: bool) -> None:
        """Require something of a scenario, unless it meets an error that only a schedule repairs."""
        if self.fault is None or self.fault[1] not in faults.ERRORS:
            self.cloud.require(invariant, holds)
