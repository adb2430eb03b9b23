"""One stage whose functions run one after the other, with one fault at one call; then whoever asked asks again."""

from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.errors import RolecallError
from chalicelib.telemetry import metrics
from tests.simulation.answers import Call, refusal
from tests.simulation.boundary import Boundary, Warm
from tests.simulation.cloud import Cloud, Seen
from tests.simulation.iam import Policy, Role
from tests.simulation.stages import TIMEOUT, TIMEOUTS, Context, environ, event, settings_of

ENDPOINT = "https://aws.simulated"
ASKS = 60  # by an operator or a schedule, before they give up
AGAIN = {"resync": 86_400.0, "rerun": 3600.0}  # seconds until a schedule comes again
SOON = 61.0  # seconds until an operator, or EventBridge, tries again


class KilledError(BaseException):
    """Ends a killed function's frames; whatever they still call in ending has no effect."""


KILLS = ("killed before", "killed after")
ERRORS = ("throttled", "5xx", "reset", "timeout after", "5xx after", "repeated", "expired", "denied", "concurrent")
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


def comes_after(kind: str) -> bool:
    """Tell whether the call took effect before the fault."""
    return kind.endswith("after")


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
    met: bool = False
    story: list[str] = field(default_factory=list)
    _seen: Seen = field(default_factory=Seen)
    _invocations: int = 0
    _dead: bool = False

    # What the application reaches.

    def clock(self) -> float:
        return self.cloud.now

    def pause(self, seconds: float) -> None:
        self.cloud.pass_time(self.cloud.now + seconds)

    def call(self, call: Call) -> dict[str, Any]:
        if self._dead:
            raise KilledError
        self.calls += 1
        self.story.append(f"{self.calls:4} {call}")
        if self.fault is None or self.fault[0] != self.calls:
            return self.cloud.answer(call, self._seen)
        self.met, kind = True, self.fault[1]
        self.story.append(f"     {kind}")
        if kind == "repeated":
            self.cloud.answer(call, self._seen)
            return self.cloud.answer(call, self._seen)
        if comes_after(kind):
            self.cloud.answer(call, self._seen)
        if kind in KILLS:
            self._dead = True
            raise KilledError
        raise fault_of(kind)

    # What happens to it.

    def invoke(self, function: str, payload: Any) -> Any:
        """Run a function; KilledError, or what it raises, is its invoker's."""
        stage = environ(**self.settings)
        self.boundary.machine = self
        self._seen, self._dead = Seen(settings=settings_of(stage)), False
        self._invocations += 1
        deadline = self.cloud.now + TIMEOUTS.get(function, TIMEOUT)
        context = Context(f"{function}.{self._invocations}.{self.calls}", lambda: deadline - self.cloud.now)
        application = self.boundary.application(stage, self.kind)
        metrics.clear_metrics()
        self.story.append(f"  {function} {payload if function != 'enroll' else [each['body'] for each in payload]}")
        if function == "on_account_event":
            return application.announce(payload)
        return getattr(application, function)(payload, context)

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

    def hear(self, *account_ids: str) -> None:
        for account_id in account_ids:
            self.ask("on_account_event", event(account_id))

    def work(self) -> None:
        """Have Lambda deliver batches until the queue is empty."""
        queues = self.cloud.queues
        while queues.messages:
            if not queues.visible():
                self.cloud.pass_time(min(message.visible_at for message in queues.messages.values()))
            records = queues.receive(queues.visible()[:10])
            try:
                queues.settle(records, self.invoke("enroll", records))
            except KilledError:
                continue
            self.pause(1)

    def end(self) -> None:
        """Let the schedules come round."""
        self.pause(86_400)
        for function in ("rerun", "resync"):
            self.ask(function, {"source": "aws.events", "detail-type": "Scheduled Event"})
            self.work()

    def state(self) -> dict[str, Any]:
        """Tell how everything stands, but for what may differ: times, how often was tried, and how versions are numbered."""
        kept = ("outcome", "reason", "error", "role_arn", "fingerprint", "policy_name", "attempts")
        told: dict[str, Any] = {
            f"row {key}": {name: row.get(name) for name in kept} for key, row in self.cloud.rows().items()
        }
        for name, shard in self.cloud.shards().items():
            names = ("accounts", "excluded", "frozen", "form", "attached")
            told[f"item {name}"] = {each: shard.get(each) for each in names} | {
                "behind": shard["version"] != shard.get("written")
            }
        for arn, held in self.cloud.iam.everything().items():
            told[arn] = _policy(held) if isinstance(held, Policy) else _role(held)
        told["queue"] = (len(self.cloud.queues.messages), list(self.cloud.queues.dead))
        told["stopped"], told["scope"] = self.cloud.is_stopped, self.cloud.scope
        return told


def _policy(policy: Policy) -> Any:
    strays = [number for number, _ in policy.versions if number > policy.default]
    return Document(policy.document).canonical, policy.attached, policy.tags, strays, len(policy.versions) <= 5


def _role(role: Role) -> Any:
    return role
