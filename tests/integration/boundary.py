"""The botocore boundary: the calls that Rolecall makes are seen here, and can be answered in AWS's place."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
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
}
"""The access key of each function's role, by which a call shows whose it is."""

_ACCESS_KEY = re.compile(r"Credential=(\w+)/")


@dataclass(frozen=True)
class Signer:
    """Whose credentials sign: a function's own role, or an access role within a session policy; and what these allow."""

    name: str
    account_id: str
    policy: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Call:
    """One request that was signed and would have left for AWS."""

    signer: Signer
    operation: str
    params: Mapping[str, Any]
    role_arn: str | None

    @property
    def account_id(self) -> str:
        return self.signer.account_id

    @property
    def about(self) -> str:
        """The account that the call enters, describes or acts in."""
        if self.operation == "sts:AssumeRole":
            return str(self.params["RoleArn"].split(":")[4])
        return str(self.params.get("AccountId", self.account_id))

    @property
    def policy_name(self) -> str | None:
        """The managed policy that the call is about."""
        arn = self.params.get("PolicyArn")
        return arn.rpartition("/")[2] if arn else self.params.get("PolicyName")

    @property
    def is_write(self) -> bool:
        return not re.fullmatch(r"\w+:(Get|List|Describe|BatchGet|Scan|Assume)\w*", self.operation)


@dataclass
class _Fault:
    operation: str
    error: Exception
    account_id: str | None
    policy_name: str | None
    left: int

    def meets(self, call: Call) -> bool:
        mine = fnmatchcase(call.operation, self.operation) and self.account_id in {None, call.about}
        mine = mine and self.policy_name in {None, call.policy_name}
        if not (mine and self.left):
            return False
        self.left -= 1
        return True


def _no_role(account_id: str, name: str) -> str | None:  # noqa: ARG001
    return None


@dataclass
class Boundary:
    """What was called, by whose credentials, and what is to be answered otherwise than moto would."""

    calls: list[Call] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    own: dict[str, Signer] = field(default_factory=dict)
    find_role: Callable[[str, str], str | None] = _no_role
    _entered: dict[str, Signer] = field(default_factory=dict)
    _faults: list[_Fault] = field(default_factory=list)
    _edits: dict[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    _answers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)
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
        """Answer an operation (`iam:*` for all of a service) by an error; AWS never sees the call."""
        answer: Any = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        refused = ClientError(answer, operation.split(":")[1])
        self.break_off(operation, refused, account_id=account_id, policy_name=policy_name, times=times)

    def break_off(
        self,
        operation: str,
        error: Exception,
        *,
        account_id: str | None = None,
        policy_name: str | None = None,
        times: int = 1_000_000,
    ) -> None:
        """Have an operation end in an error of botocore's."""
        self._faults.append(_Fault(operation, error, account_id, policy_name, times))

    def edit(self, operation: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change an operation's answers, or do something between the call and its answer."""
        self._edits[operation] = change

    def answer(self, operation: str, give: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Answer an operation of the functions' own roles by what is given for its parameters; moto never sees the call."""
        self._answers[operation] = give

    def mend(self) -> None:
        """Let moto answer everything again that it can."""
        self._faults.clear()
        self._edits.clear()

    @contextmanager
    def watching(self) -> Iterator[list[Call]]:
        """Collect the calls that are made within."""
        seen: list[Call] = []
        start = len(self.calls)
        yield seen
        seen += self.calls[start:]

    def on_client(self, event_name: str, **_: Any) -> None:
        self.clients.append(event_name.removeprefix("creating-client-class."))

    def on_params(self, params: Mapping[str, Any], **_: Any) -> None:
        self._params = params

    def on_call(self, event_name: str, request_signer: Any, **_: Any) -> tuple[Any, dict[str, Any]] | None:
        """Answer in AWS's place, where a test has an answer."""
        operation = ":".join(event_name.split(".")[1:])
        signer = self.own.get(request_signer._credentials.access_key)
        if signer is None or operation not in self._answers:
            return None
        call = Call(signer, operation, self._params, None)
        self._pass(call)
        answer = self._answers[operation](self._params)
        self._current = call  # An answer may be another function's run, with calls of its own.
        return SimpleNamespace(status_code=200), answer

    def _pass(self, call: Call) -> None:
        self.calls.append(call)
        for fault in self._faults:
            if fault.meets(call):
                raise fault.error

    def on_send(self, request: Any, event_name: str, **_: Any) -> None:
        """Raise in AWS's place what is to go wrong; botocore hands it to the caller as it is."""
        service, operation = event_name.split(".")[1:]
        authorization = request.headers.get("Authorization", "")
        key = _ACCESS_KEY.search(authorization if isinstance(authorization, str) else authorization.decode())
        signer = (self.own | self._entered).get(key[1]) if key else None
        self._current = None
        if signer is None:
            return
        role_name = self._params.get("RoleName")
        role_arn = self.find_role(signer.account_id, role_name) if role_name else None
        call = self._current = Call(signer, f"{service}:{operation}", self._params, role_arn)
        self._pass(call)
        if call.operation == "sts:AssumeRole":
            self._refuse_unknown_role(call.params["RoleArn"])

    def on_answer(self, parsed: dict[str, Any], **_: Any) -> None:
        call = self._current
        if call is None:
            return
        if call.operation == "sts:AssumeRole":
            arn = call.params["RoleArn"]
            statements = tuple(json.loads(call.params["Policy"])["Statement"])
            self._entered[parsed["Credentials"]["AccessKeyId"]] = Signer(arn, arn.split(":")[4], statements)
        if call.operation in self._edits:
            self._edits[call.operation](parsed)

    def _refuse_unknown_role(self, arn: str) -> None:
        """Deny what STS denies and moto allows: assuming a role that doesn't exist."""
        account_id, name = arn.split(":")[4], arn.rpartition("/")[2]
        if self.find_role(account_id, name) != arn:
            message = f"User: rolecall is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, "AssumeRole")


@contextmanager
def watched() -> Iterator[Callable[[Boundary | None], None]]:
    """See every client that is made from here on, in whatever session; the boundary in force is set by the test."""
    current: list[Boundary] = []

    def switch(boundary: Boundary | None) -> None:
        current[:] = [boundary] if boundary else []

    def passing(handler: str) -> Callable[..., Any]:
        def handle(**given: Any) -> Any:
            return getattr(current[0], handler)(**given) if current else None

        return handle

    handlers = [
        ("creating-client-class", passing("on_client")),
        ("provide-client-params", passing("on_params")),
        ("before-call", passing("on_call")),
        ("before-send", passing("on_send"), REGISTER_FIRST),
        ("after-call", passing("on_answer")),
    ]
    BUILTIN_HANDLERS.extend(handlers)
    yield switch
    for handler in handlers:
        BUILTIN_HANDLERS.remove(handler)
