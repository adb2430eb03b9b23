"""The AWS boundary: records the functions' calls at botocore's events, and injects faults and responses."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST

FUNCTION_KEYS = {
    "on_account_event": "AKIAONACCOUNTEVENTXX",
    "enroll": "AKIAENROLLXXXXXXXXXX",
    "publish": "AKIAPUBLISHXXXXXXXXX",
    "backfill": "AKIABACKFILLXXXXXXXX",
    "rerun": "AKIARERUNXXXXXXXXXXX",
    "resync": "AKIARESYNCXXXXXXXXXX",
    "retire": "AKIARETIREXXXXXXXXXX",
    "freeze": "AKIAFREEZEXXXXXXXXXX",
    "announce_outcome": "AKIAANNOUNCEOUTCOMEX",
}
"""The access key of each function's role, which attributes a call to its function."""

_ACCESS_KEY = re.compile(r"Credential=(\w+)/")


@dataclass(frozen=True)
class Signer:
    """The principal that signs a call: a function's role, or an access role with a session policy; and its permissions."""

    name: str
    account_id: str
    policy: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Call:
    """One signed request."""

    signer: Signer
    operation: str
    params: Mapping[str, Any]
    role_arn: str | None
    tags: Mapping[str, str] = field(default_factory=dict)  # of the role or policy

    @property
    def account_id(self) -> str:
        return self.signer.account_id

    @property
    def target_account_id(self) -> str:
        """The account that the call enters, describes or acts in."""
        if self.operation == "sts:AssumeRole":
            return str(self.params["RoleArn"].split(":")[4])
        return str(self.params.get("AccountId", self.account_id))

    @property
    def policy_name(self) -> str | None:
        """The managed policy that the call reads or writes."""
        arn = self.params.get("PolicyArn")
        return arn.rpartition("/")[2] if arn else self.params.get("PolicyName")

    @property
    def is_write(self) -> bool:
        return not re.fullmatch(r"[\w-]+:(Get|List|Describe|BatchGet|Scan|Assume)\w*", self.operation)


def writes(calls: Iterable[Call], service: str = "") -> list[str]:
    """Return the operations that write, of one service (`iam:`) or of all."""
    return [call.operation for call in calls if call.is_write and call.operation.startswith(service)]


@dataclass
class _Fault:
    operation: str
    error: Exception
    account_id: str | None
    policy_name: str | None
    left: int

    def applies(self, call: Call) -> bool:
        """Whether a call fails; each failure uses up one of those that are left."""
        matches = fnmatchcase(call.operation, self.operation) and self.account_id in {None, call.target_account_id}
        matches = matches and self.policy_name in {None, call.policy_name}
        if not (matches and self.left):
            return False
        self.left -= 1
        return True


def _no_role(account_id: str, name: str) -> str | None:  # noqa: ARG001
    return None


def _no_tags(account_id: str, params: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG001
    return {}


@dataclass
class Boundary:
    """The calls that were made, their signers, and the faults and responses that replace moto's."""

    calls: list[Call] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    signers: dict[str, Signer] = field(default_factory=dict)
    find_role: Callable[[str, str], str | None] = _no_role
    find_tags: Callable[[str, Mapping[str, Any]], Mapping[str, str]] = _no_tags
    _sessions: dict[str, Signer] = field(default_factory=dict)
    _faults: list[_Fault] = field(default_factory=list)
    _edits: dict[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    _responses: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    _params: Mapping[str, Any] = field(default_factory=dict)
    _current: Call | None = None

    def fail(
        self,
        operation: str,
        code: str = "AccessDenied",
        message: str = "no",
        *,
        status: int = 403,
        account_id: str | None = None,
        policy_name: str | None = None,
        times: int = 1_000_000,
    ) -> None:
        """Respond to an operation (`iam:*` for all of a service) with an error, before it takes effect."""
        response: Any = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        error = ClientError(response, operation.split(":")[1])
        self.raise_error(operation, error, account_id=account_id, policy_name=policy_name, times=times)

    def raise_error(
        self,
        operation: str,
        error: Exception,
        *,
        account_id: str | None = None,
        policy_name: str | None = None,
        times: int = 1_000_000,
    ) -> None:
        """Raise an error in place of an operation, before it takes effect."""
        self._faults.append(_Fault(operation, error, account_id, policy_name, times))

    def lose_response(self, operation: str, *, signer: str = "*") -> None:
        """Raise a timeout after an operation took effect."""

        def lose(_: dict[str, Any]) -> None:
            if fnmatchcase(self.calls[-1].signer.name, signer):
                raise ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")

        self.edit_response(operation, lose)

    def edit_response(self, operation: str, edit: Callable[[dict[str, Any]], object]) -> None:
        """Call a function with each response of an operation, to change it or to act before the caller continues."""
        self._edits[operation] = edit

    def respond(self, operation: str, response: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Respond to an operation by its parameters, in place of moto."""
        self._responses[operation] = response

    def stop_faults(self) -> None:
        """Remove all faults and edits of responses."""
        self._faults.clear()
        self._edits.clear()

    @contextmanager
    def recording(self) -> Iterator[list[Call]]:
        """Yield a list that contains, after the `with` block, the calls made within it."""
        recorded: list[Call] = []
        start = len(self.calls)
        yield recorded
        recorded += self.calls[start:]

    # The handlers of botocore's events.

    def on_client(self, event_name: str, **_: Any) -> None:
        self.clients.append(event_name.removeprefix("creating-client-class."))

    def on_params(self, params: Mapping[str, Any], **_: Any) -> None:
        self._params = params

    def on_call(self, event_name: str, request_signer: Any, **_: Any) -> tuple[Any, dict[str, Any]] | None:
        """Return a response in place of AWS's, if a test set one."""
        operation = ":".join(event_name.split(".")[1:])
        credentials = request_signer._credentials  # None without any
        signers = self.signers | self._sessions
        signer = signers.get(credentials.get_frozen_credentials().access_key) if credentials else None
        if signer is None or operation not in self._responses:
            return None
        call = Call(signer, operation, self._params, None)
        self._record(call)
        response = self._responses[operation](self._params)
        self._current = call  # The response may be another function's run, which makes calls of its own.
        return SimpleNamespace(status_code=200), response

    def _record(self, call: Call) -> None:
        self.calls.append(call)
        for fault in self._faults:
            if fault.applies(call):
                raise fault.error

    def on_send(self, request: Any, event_name: str, **_: Any) -> None:
        """Record a call, and raise its fault if it has one; botocore passes the error to the caller."""
        service, operation = event_name.split(".")[1:]
        authorization = request.headers.get("Authorization", "")
        key = _ACCESS_KEY.search(authorization if isinstance(authorization, str) else authorization.decode())
        signer = (self.signers | self._sessions).get(key[1]) if key else None
        self._current = None
        if signer is None:
            return
        role_name = self._params.get("RoleName")
        role_arn = self.find_role(signer.account_id, role_name) if role_name else None
        tags = self.find_tags(signer.account_id, self._params)
        call = self._current = Call(signer, f"{service}:{operation}", self._params, role_arn, tags)
        self._record(call)
        if call.operation == "sts:AssumeRole":
            self._require_role(call.params["RoleArn"])

    def on_response(self, parsed: dict[str, Any], **_: Any) -> None:
        call = self._current
        if call is None:
            return
        if call.operation == "sts:AssumeRole":
            arn = call.params["RoleArn"]
            statements = tuple(json.loads(call.params["Policy"])["Statement"])
            self._sessions[parsed["Credentials"]["AccessKeyId"]] = Signer(arn, arn.split(":")[4], statements)
        if call.operation in self._edits:
            self._edits[call.operation](parsed)

    def _require_role(self, arn: str) -> None:
        """Deny assuming a role that doesn't exist, as STS does and moto doesn't."""
        account_id, name = arn.split(":")[4], arn.rpartition("/")[2]
        if self.find_role(account_id, name) != arn:
            message = f"User: rolecall is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, "AssumeRole")


@contextmanager
def intercepting_clients() -> Iterator[Callable[[Boundary | None], None]]:
    """Intercept every client that is made within the block; yield what sets the boundary that receives the events."""
    current: list[Boundary] = []

    def set_boundary(boundary: Boundary | None) -> None:
        current[:] = [boundary] if boundary else []

    def forwarding(handler: str) -> Callable[..., Any]:
        def handle(**given: Any) -> Any:
            return getattr(current[0], handler)(**given) if current else None

        return handle

    handlers = [
        ("creating-client-class", forwarding("on_client")),
        ("provide-client-params", forwarding("on_params")),
        ("before-call", forwarding("on_call")),
        ("before-send", forwarding("on_send"), REGISTER_FIRST),
        ("after-call", forwarding("on_response")),
    ]
    BUILTIN_HANDLERS.extend(handlers)
    yield set_boundary
    for handler in handlers:
        BUILTIN_HANDLERS.remove(handler)
