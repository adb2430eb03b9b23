"""Controls of the local AWS that AWS itself does not have: states, time, delays and faults."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from local.server import Server


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of IAM or STS with an access key, its secret and the token of a session."""

    service: str
    credentials: tuple[str, str, str | None]
    parameters: Mapping[str, str]


class Controls:
    """The controls of a server."""

    _server: Server

    def call_all(self, calls: Sequence[Call]) -> list[tuple[int, str]]:
        """Make calls one after another within the server, and return the status and the body of each response."""
        responses = self._server.control("call_all", calls=[asdict(call) for call in calls])
        return [(int(status), str(body)) for status, body in responses]

    def reset_iam(self) -> None:
        """Delete all roles, users, policies and sessions in all accounts."""
        self._server.control("reset_iam")

    def set_account_state(self, account_id: str, state: str) -> None:
        """Set the state of an account, such as ACTIVE, SUSPENDED or CLOSED, without an event."""
        self._server.control("set_account_state", account_id=account_id, state=state)

    def set_other_organization(self, account_ids: Iterable[str]) -> None:
        """Put these accounts, and no others, in another organization, which only condition keys show."""
        self._server.control("switch", other_organization=list(account_ids))

    def set_stack_status(self, stack: str, status: str) -> None:
        """Set the status of a CloudFormation stack of the management account, without an event."""
        self._server.control("set_stack_status", stack=stack, status=status)

    def age_account(self, account_id: str, seconds: float) -> None:
        """Move the time at which an account joined into the past."""
        self._server.control("age_account", account_id=account_id, seconds=seconds)

    def age_metrics(self, seconds: float) -> None:
        """Move all data points of metrics into the past: for alarms, time passes."""
        self._server.control("age_metrics", seconds=seconds)

    def set_ready_delay(self, seconds: float) -> None:
        """Set how long after an account's creation its access role can be assumed; also shortens current delays."""
        self._server.control("switch", ready_delay=seconds)

    def drop_events(self, dropped: bool) -> None:  # noqa: FBT001 - a switch
        """Lose all events of Organizations, or deliver them again."""
        self._server.control("switch", drop_events=dropped)

    def deliver_event(self, source: str, detail: Mapping[str, object]) -> None:
        """Deliver the event of an API call, as CloudTrail does, to the management account."""
        self._server.control("deliver_event", source=source, detail=dict(detail))

    def hide_accounts(self, account_ids: Iterable[str]) -> None:
        """Leave these accounts, and no others, out of all listings; DescribeAccount still returns them."""
        self._server.control("switch", hidden_accounts=list(account_ids))

    def throttle(self, every: int) -> None:
        """Throttle every nth call of the functions to IAM, STS and Organizations; 0 throttles none."""
        self._server.control("switch", throttle_every=every)

    def slow_iam(self, seconds: float) -> None:
        """Delay the response to each IAM call of the functions."""
        self._server.control("switch", iam_seconds=seconds)

    def kill(self, function: str) -> None:
        """Kill the busy processes of a function. Raise ValueError if there is none."""
        self._server.control("kill", function=function)

    def fire(self, rule: str) -> None:
        """Fire a scheduled rule. Raise ValueError if it is missing, not scheduled or disabled."""
        self._server.control("fire", rule=rule)

    def delays(self, queue: str) -> list[float]:
        """Return the seconds until each message that no function is processing becomes visible."""
        delays: list[float] = self._server.control("delays", queue=queue)
        return delays

    def skip_delays(self, queue: str) -> None:
        """Make every message of a queue visible, except those that a function is processing."""
        self._server.control("skip_delays", queue=queue)

    def server_log(self) -> str:
        """Return the server's own log."""
        return self._server.log.read_text()
