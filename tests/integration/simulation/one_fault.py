"""One stage whose functions run one after the other, with one fault at one call; then whoever asked asks again."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.errors import RolecallError
from chalicelib.telemetry import metrics
from tests.integration.simulation.answers import Call, refusal
from tests.integration.simulation.boundary import Boundary, Warm
from tests.integration.simulation.cloud import SOURCE_POLICY, Cloud, Seen, granted_by
from tests.integration.simulation.iam import Policy
from tests.integration.simulation.stages import (
    TIMEOUT,
    TIMEOUTS,
    Context,
    environ,
    event,
    settings_of,
    source_policy_arn,
)
from tests.integration.simulation.witness import NO_ACCOUNT

ENDPOINT = "https://aws.simulated"
ASKS = 60  # by an operator or a schedule, before they give up
AGAIN = {"resync": 86_400.0, "rerun": 3600.0}  # seconds until a schedule comes again
SOON = 61.0  # seconds until an operator, or EventBridge, tries again


class KilledError(BaseException):
    """Ends a killed function's frames; whatever they still call in ending has no effect."""


WORK = 2000  # batches, after which the queues should be empty
CALL_SECONDS = 0.2
WRITE_SECONDS = 14.0  # that a call of publish may take until it has its effect (`publish_config`)
READ_SECONDS = 25.0  # that one without an effect may take, to outlast the lease
WAIT_SECONDS = 7.0  # after which publish gives a call up whose answer doesn't come
OVERLAP = "overlap"
LATE = "late"  # a write of publish that it gives up, and that takes effect only then
_READS = ("Get", "List", "Describe", "BatchGet", "Scan", "AssumeRole")

KILLS = ("killed before", "killed after")
ERRORS = (
    "throttled",
    "5xx",
    "reset",
    "timeout after",
    "5xx after",
    "repeated",
    "expired",
    "denied",
    "concurrent",
    LATE,
)
"""What a call may meet: it ends the function, or an error that has outlasted botocore's own tries."""


def fault_of(kind: str) -> Exception:
    """Make the error that a fault is met as."""
    match kind:
        case "throttled":
            return refusal("ThrottlingException", "Rate exceeded")
        case "5xx" | "5xx after":
            return refusal("ServiceUnavailable", "try later", 503)
        case "reset":
            return ConnectionClosedError(endpoint_url=ENDPOINT)
        case "timeout after" | "timeout":
            return ReadTimeoutError(endpoint_url=ENDPOINT)
        case "expired":
            return refusal("ExpiredTokenException", "The security token included in the request is expired", 403)
        case "denied":
            return refusal("AccessDenied", "not authorized", 403)
        case "concurrent":
            return refusal("ConcurrentModification", "modified at the same time", 409)
        case "scp":
            return refusal("AccessDenied", "not authorized, with an explicit deny in a service control policy", 403)
        case "quota":
            return refusal("LimitExceeded", "Cannot exceed quota", 409)
    raise NotImplementedError(kind)


def is_read(call: Call) -> bool:
    """Whether a call changes nothing."""
    return call.name.startswith(_READS)


def comes_after(kind: str) -> bool:
    """Tell whether the call took effect before the fault."""
    return kind.endswith("after")


@dataclass
class Invocation:
    """One run of a function, which may be killed."""

    seen: Seen
    dead: bool = False
    calls: int = 0


def _distinct_faults(call: Call, invocation: Invocation) -> set[str]:
    """Return the faults that leave a world which no other fault leaves."""
    faults = {fault for fault in ERRORS if not comes_after(fault)} - {LATE, "repeated"}
    # A kill before a call, or after a read, leaves the world that a kill after the last write leaves.
    if not invocation.calls:
        faults.add("killed before")
    if not is_read(call):
        faults |= {"killed after", "timeout after", "5xx after", "repeated"}
    if invocation.seen.function == "publish":
        faults |= {OVERLAP} if is_read(call) else {OVERLAP, LATE}
    return faults


@dataclass
class Stage:
    """A stage over a cloud of its own; `fault` is the number of the call that it meets, and its kind."""

    boundary: Boundary
    settings: dict[str, str] = field(default_factory=dict)
    kind: type[Application] = Warm
    cloud: Cloud = field(default_factory=Cloud)
    calls: int = 0
    acted: int = 0  # of these, before the schedules came round
    fault: tuple[int, str] | None = None
    kills: Callable[[Call], bool] = lambda _: False  # the first call that is killed after it took effect
    between: tuple[Callable[[Call], bool], Callable[["Stage"], None]] | None = None  # what comes before a call, once
    met: bool = False
    story: list[str] = field(default_factory=list)
    distinct: set[tuple[int, str]] = field(default_factory=set)  # faults that leave different worlds
    _stack: list[Invocation] = field(default_factory=list)
    _invocations: int = 0
    _late: list[tuple[float, Call, Seen]] = field(default_factory=list)

    # What the application reaches.

    def clock(self) -> float:
        return self.cloud.now

    def pause(self, seconds: float) -> None:
        self.cloud.pass_time(self.cloud.now + seconds)

    def call(self, call: Call) -> dict[str, Any]:
        self._land()
        invocation = self._stack[-1]
        if invocation.dead:
            raise KilledError
        self.calls += 1
        self.pause(CALL_SECONDS)
        self.story.append(f"{self.calls:4} {call}")
        self.distinct |= {(self.calls, fault) for fault in _distinct_faults(call, invocation)}
        invocation.calls += 1
        if self.between is not None and self.between[0](call):
            (_, come), self.between = self.between, None
            come(self)
        kind = self.fault[1] if self.fault is not None and self.fault[0] == self.calls else None
        if kind is None and self.kills(call):
            kind, self.kills = "killed after", lambda _: False
        if kind == LATE and is_read(call):
            kind = None
        if kind is None or (kind in {OVERLAP, LATE} and invocation.seen.function != "publish"):
            return self._answer(call)
        self.met = True
        self.story.append(f"     {kind}")
        return self._disturbed(call, kind, invocation)

    def _disturbed(self, call: Call, kind: str, invocation: Invocation) -> dict[str, Any]:
        """Have a call meet a fault, and return its answer, if it has one."""
        if kind == OVERLAP:
            self._overlap(call)
            return self._answer(call)
        if kind == LATE:
            self._late.append((self.cloud.now + WRITE_SECONDS, call, invocation.seen))
            self.pause(WAIT_SECONDS)
            raise fault_of("timeout")
        if kind == "repeated":
            self._answer(call)
            return self._answer(call)
        if comes_after(kind):
            self._answer(call)
        if kind in KILLS:
            invocation.dead = True
            raise KilledError
        raise fault_of(kind)

    def _land(self) -> None:
        """Let late calls take effect whose time has come."""
        while self._late and self._late[0][0] <= self.cloud.now:
            _, call, seen = self._late.pop(0)
            self.story.append(f"     {call} of {seen.name} takes effect")
            with suppress(ClientError):
                self.cloud.answer(call, seen)

    def _answer(self, call: Call) -> dict[str, Any]:
        if call.service == "lambda":
            return self._publish_now()
        return self.cloud.answer(call, self._stack[-1].seen)

    def _publish_now(self) -> dict[str, Any]:
        """Run publish while its invoker waits."""
        try:
            answer = self.invoke("publish", [])
        except KilledError:
            return {"StatusCode": 200, "FunctionError": "Unhandled"}
        return {"StatusCode": 200, "Payload": json.dumps(answer)}

    def _overlap(self, call: Call) -> None:
        """Let a call take long, and a second run of publish come meanwhile: by a queue whose messages became visible."""
        self.pause(READ_SECONDS if is_read(call) else WRITE_SECONDS)
        self.fault = None
        with suppress(KilledError):
            self.invoke("publish", [])

    # What happens to it.

    def invoke(self, function: str, payload: Any) -> Any:
        """Run a function; KilledError, or what it raises, is its invoker's."""
        stage = environ(**self.settings)
        self.boundary.machine = self
        self._invocations += 1
        name = f"{function}.{self._invocations}.{self.calls}"
        deadline = self.cloud.now + TIMEOUTS.get(function, TIMEOUT)
        context = Context(name, lambda: deadline - self.cloud.now)
        application = self.boundary.application(stage, self.kind)
        metrics.clear_metrics()
        is_batch = function in {"enroll", "publish"}
        self.story.append(f"  {function} {[each['body'] for each in payload] if is_batch else payload}")
        seen = Seen(settings=settings_of(stage), function=function, name=name, since=self.cloud.now)
        self._stack.append(Invocation(seen))
        publishing = self.cloud.witness.publishing
        if function == "publish":
            publishing[name] = self.cloud.now
        try:
            if function == "on_account_event":
                return application.enqueue(payload)
            return getattr(application, function)(payload, context)
        finally:
            self._stack.pop()
            publishing.pop(name, None)

    def ask(self, function: str, request: Any) -> Any:
        """Ask until it is answered, as an operator, a schedule or EventBridge does."""
        for _ in range(ASKS):
            try:
                return self.invoke(function, request)
            except (KilledError, RolecallError, ClientError, BotoCoreError) as error:
                self.story.append(f"  raises {error!r}")
                self.pause(AGAIN.get(function, SOON))
        message = f"{function} {request} was never answered"
        raise AssertionError(message)

    def expect(self, rule: str, kept: bool) -> None:
        """Require something of a scenario, unless it meets an error, which may take a schedule to be made up for."""
        if self.fault is None or self.fault[1] not in ERRORS:
            self.cloud.require(rule, kept)

    def hear(self, *account_ids: str) -> None:
        for account_id in account_ids:
            self.ask("on_account_event", event(account_id))

    def work(self) -> None:
        """Have Lambda deliver batches until both queues are empty."""
        queues = self.cloud.queues
        for _ in range(WORK):
            if queues.publish.visible():
                self.deliver("publish")
            elif queues.accounts.visible():
                self.deliver("enroll")
            elif queues.messages:
                self.cloud.pass_time(queues.next_at())
            else:
                self._land()
                return
        message = "the queues are never empty"
        raise AssertionError(message)

    def deliver(self, function: str) -> None:
        """Hand one batch of a queue, if anything of it is visible, to its function."""
        queues = self.cloud.queues
        queue = queues.publish if function == "publish" else queues.accounts
        records = queue.receive(queue.visible()[:10])
        if not records:
            return
        try:
            queue.settle(records, self.invoke(function, records))
        except KilledError:
            return
        self.pause(1)

    def end(self) -> None:
        """Let the schedules come round."""
        self.pause(86_400)
        for function in ("rerun", "resync"):
            self.ask(function, {"source": "aws.events", "detail-type": "Scheduled Event"})
            self.work()

    def state(self, *, merged: bool = False) -> dict[str, Any]:
        """Describe everything but what may differ: times, how often was tried, and how versions are numbered.

        `merged` describes the shards as one: a shard that a terminal error keeps from being written takes no newcomers, which
        another one is opened for.
        """
        cloud = self.cloud
        kept = ("outcome", "reason", "error", "role_arn", "access", "attempts")
        told: dict[str, Any] = {
            f"row {key}": {name: row.get(name) for name in kept}
            | {name: name in row for name in ("in_force_since", "retirement_requested_at")}
            for key, row in cloud.rows().items()
        }
        # Whether it was ever granted depends on when its row was written first, or on what failed before.
        for row in told.values():
            row["outcome"] = "left" if row["reason"] in {"departed", "uninstalled"} else row["outcome"]
        # A further shard stays once it was opened, even if nothing needs it any more.
        shards = cloud.shards()
        needed = {name for name, record in shards.items() if name == SOURCE_POLICY or _version_accounts(record)}
        unneeded = {source_policy_arn(cloud.source_account).replace(SOURCE_POLICY, name) for name in shards} - {
            source_policy_arn(cloud.source_account).replace(SOURCE_POLICY, name) for name in needed
        }
        policies = cloud.source_policies()
        if merged:
            told["shards"] = {
                name: frozenset().union(
                    *(shards[each]["applied"][name] for each in needed if "applied" in shards[each])
                )
                for name in ("accounts", "excluded", "attached")
            }
            told["unfinished shards"] = {each for each in needed if shards[each].keys() & _UNFINISHED}
            grants = [granted_by(policies[name].document) for name in needed if name in policies]
            told["grants"] = {
                "named": frozenset().union(*(grant.named for grant in grants)) - {NO_ACCOUNT},
                "others": {(grant.organization, grant.but, grant.frozen, bool(grant.named)) for grant in grants},
            }
            told["policies"] = {_policy(policies[name])[1:] for name in needed if name in policies}
            unneeded = {policy.arn for policy in policies.values()}
        for name in () if merged else needed:
            record = shards[name]
            told[f"item {name}"] = {
                "applied": _version(record.get("applied")),
                "applying": _version(record.get("applying")),
                "unfinished": record.get("unfinished"),
                "error": record.get("error"),
            }
        for arn, held in cloud.iam.everything().items():
            if isinstance(held, Policy):
                told |= {arn: _policy(held)} if arn not in unneeded else {}
            else:
                told[arn] = replace(held, attached=held.attached - unneeded)
        told["queues"] = (len(cloud.queues.messages), cloud.queues.accounts.dead, cloud.queues.publish.dead)
        told["control"] = {name: cloud.control().get(name) for name in ("frozen", "uninstalling", "uninstalled")}
        names = ("names", "organization_id", "room", "principals", "blocked", "scope", "run_owner")
        told["status"] = {name: cloud.status().get(name) for name in names}
        return told


_UNFINISHED = {"applying", "unfinished", "error"}


def _version_accounts(record: dict[str, Any]) -> bool:
    versions = (record.get("applied"), record.get("applying"))
    return any(version and (version["accounts"] or version["excluded"]) for version in versions)


def _version(applied: Any) -> Any:
    return {name: value for name, value in applied.items() if name != "version_id"} if applied else None


def _policy(policy: Policy) -> Any:
    strays = [number for number, _ in policy.versions if number > policy.default]
    return Document(policy.document).canonical, policy.attached, policy.tags, tuple(strays), len(policy.versions) <= 5
