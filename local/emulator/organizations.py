"""AWS Organizations: asynchronous creation, access roles, states, paths, pages, invitations, departures and events."""

import contextvars
import json
import os
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from emulator import events
from emulator.switches import SWITCHES
from ministack.core.responses import error_response_json, get_account_id, new_uuid, request_scope
from ministack.services import iam
from ministack.services import organizations as ministack

Answer = tuple[int, dict[str, str], bytes]
Operation = Callable[[dict[str, Any]], Answer]

MANAGEMENT = os.environ["MINISTACK_ACCOUNT_ID"]
_REGION = "us-east-1"
_PAGE = 20
_OF_MEMBERS = {"DescribeOrganization", "AcceptHandshake", "LeaveOrganization"}
_STATUS_OF = {
    "PENDING_ACTIVATION": "SUSPENDED",
    "ACTIVE": "ACTIVE",
    "SUSPENDED": "SUSPENDED",
    "PENDING_CLOSURE": "PENDING_CLOSURE",
    "CLOSED": "SUSPENDED",
}

_caller = contextvars.ContextVar("caller", default=MANAGEMENT)
_ready_at: dict[str, float] = {}
_handshakes: dict[str, dict[str, Any]] = {}


def organization_id_of(account_id: str) -> str | None:
    """Tell the organization that an account is a member of."""
    if not ministack._accounts.contains_scoped(MANAGEMENT, None, account_id):
        return None
    return str(ministack._orgs.get_scoped(MANAGEMENT, None, "self")["Id"])


def lets_in(account_id: str) -> bool:
    """Tell whether roles of an account can be assumed: AWS refuses while it is set up, suspended or closed."""
    account = ministack._accounts.get_scoped(MANAGEMENT, None, account_id, {})
    return time.time() >= _ready_at.get(account_id, 0) and account.get("State", "ACTIVE") == "ACTIVE"


def hasten() -> None:
    """Let no account that is not ready yet wait for longer than accounts made from now on."""
    latest = time.time() + SWITCHES.ready_delay
    for account_id, at in list(_ready_at.items()):
        _ready_at[account_id] = min(at, latest)


def set_account_state(account_id: str, state: str) -> None:
    """Bring an account into a state that only AWS brings it into."""
    ministack._accounts.to_dict()[MANAGEMENT, account_id].update(State=state, Status=_STATUS_OF[state])


def age_account(account_id: str, seconds: float) -> None:
    """Let an account have joined so much earlier."""
    ministack._accounts.to_dict()[MANAGEMENT, account_id]["JoinedTimestamp"] -= seconds


def mend() -> None:
    """Wrap ministack's operations, and add those that it lacks."""
    operations = ministack._DISPATCH
    operations["CreateAccount"] = _created_later(operations["CreateAccount"])
    operations["CloseAccount"] = _closed_later(operations["CloseAccount"])
    operations["RemoveAccountFromOrganization"] = _remove_account
    operations["LeaveOrganization"] = _leave_organization
    operations["InviteAccountToOrganization"] = _invite_account
    operations["AcceptHandshake"] = _accept_handshake
    operations["ListChildren"] = _list_children
    for name, member in (
        ("ListAccounts", "Accounts"),
        ("ListAccountsForParent", "Accounts"),
        ("ListChildren", "Children"),
        ("ListOrganizationalUnitsForParent", "OrganizationalUnits"),
    ):
        operations[name] = _paged(operations[name], member)
    for name in list(operations):
        operations[name] = _recorded(name, operations[name])
    ministack._public_account = _public_account
    ministack.handle_request = _for_the_organization(ministack.handle_request)
    with request_scope(MANAGEMENT, _REGION):
        ministack._ensure_org()


def _for_the_organization(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """On AWS an organization is one, whoever asks; members may ask for little."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Answer:
        caller = get_account_id()
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if caller != MANAGEMENT and operation not in _OF_MEMBERS:
            return error_response_json(
                "AccessDeniedException", "You don't have permissions to access this resource.", 400
            )
        token = _caller.set(caller)
        try:
            with request_scope(MANAGEMENT, _REGION):
                answer: Answer = await handle_request(method, path, headers, body, query)
                return answer
        finally:
            _caller.reset(token)

    return handle


def _recorded(name: str, operation: Operation) -> Operation:
    """On AWS every call that writes is an event, a failed one too; a member's own departure is its own trail's."""

    def call(request: dict[str, Any]) -> Answer:
        answer = operation(request)
        outcome = json.loads(answer[2] or b"{}")
        if answer[0] == HTTPStatus.OK:
            recorded = {"responseElements": events.as_recorded(outcome) or None}
        else:
            recorded = {"errorCode": outcome["__type"].removesuffix("Exception"), "errorMessage": outcome["message"]}
        events.api_call(MANAGEMENT, _caller.get(), name, request, recorded)
        return answer

    return operation if name.startswith(("Describe", "List")) or name == "LeaveOrganization" else call


def _public_account(record: dict[str, Any]) -> dict[str, Any]:
    """On AWS an account has a State beside its Status, and the Paths to it."""
    state = record.get("State", "ACTIVE")
    shown = {key: value for key, value in record.items() if not key.startswith("_") and key != "Path"}
    return shown | {"State": state, "Status": _STATUS_OF[state], "Paths": [_path_to(record)]}


def _path_to(record: dict[str, Any]) -> str:
    return "/".join([ministack._orgs["self"]["Id"], *levels_above(record["Id"])]) + "/"


def levels_above(account_id: str) -> list[str]:
    """List the root, the organizational units and the account that an account is under; nothing outside the organization."""
    levels = []
    level = account_id
    while record := ministack._accounts.get(level) or ministack._ous.get(level):
        levels.append(level)
        level = record["_ParentId"]
    return [level, *reversed(levels)] if levels else []


def _paged(list_all: Operation, member: str) -> Operation:
    """AWS lists 20 at a time, and an answer may be empty and yet have a NextToken; here it may leave accounts out, too."""

    def list_page(request: dict[str, Any]) -> Answer:
        status, headers, body = list_all(request)
        if status != HTTPStatus.OK:
            return status, headers, body
        token = request.get("NextToken", "page-0")
        kind, _, offset = token.partition("-")
        if kind not in {"page", "empty"} or not offset.isdigit():
            return error_response_json("InvalidInputException", "You specified an invalid value for nextToken.", 400)
        start, size = int(offset), min(request.get("MaxResults", _PAGE), _PAGE)
        everything = [each for each in json.loads(body)[member] if each["Id"] not in SWITCHES.hidden_accounts]
        if kind == "empty":
            return ministack._json(200, {member: [], "NextToken": f"page-{start}"})
        page: dict[str, Any] = {member: everything[start : start + size]}
        if start + size < len(everything):
            page["NextToken"] = f"{'page' if start else 'empty'}-{start + size}"
        return ministack._json(200, page)

    return list_page


def _list_children(request: dict[str, Any]) -> Answer:
    records = ministack._accounts if request.get("ChildType") == "ACCOUNT" else ministack._ous
    children = [
        {"Id": record["Id"], "Type": request.get("ChildType")}
        for record in records.values()
        if record["_ParentId"] == request.get("ParentId")
    ]
    return ministack._json(200, {"Children": children})


def _later(complete: Callable[[], None]) -> None:
    def run() -> None:
        with request_scope(MANAGEMENT, _REGION):
            complete()

    timer = threading.Timer(SWITCHES.creation_seconds, run)
    timer.daemon = True
    timer.start()


def _created_later(create_account: Operation) -> Operation:
    """AWS creates an account some time after it was asked, with an access role in it that soon can be assumed."""

    def create(request: dict[str, Any]) -> Answer:
        if request.get("Email") in {record["Email"] for record in ministack._accounts.values()}:
            return _refused_later(request)
        answer = create_account(request)
        if answer[0] != HTTPStatus.OK:
            return answer
        finished = json.loads(answer[2])["CreateAccountStatus"]
        asked = {key: finished[key] for key in ("Id", "AccountName", "RequestedTimestamp")} | {"State": "IN_PROGRESS"}
        ministack._create_statuses[finished["Id"]] = asked
        account_id = finished["AccountId"]
        ministack._accounts[account_id]["State"] = "PENDING_ACTIVATION"

        def complete() -> None:
            _make_access_role(account_id, request.get("RoleName") or "OrganizationAccountAccessRole")
            _ready_at[account_id] = time.time() + SWITCHES.ready_delay
            ministack._accounts[account_id]["State"] = "ACTIVE"
            _report(finished | {"CompletedTimestamp": int(time.time())})

        _later(complete)
        return ministack._json(200, {"CreateAccountStatus": asked})

    return create


def _refused_later(request: dict[str, Any]) -> Answer:
    asked = {
        "Id": "car-" + new_uuid().replace("-", "")[:8],
        "AccountName": request.get("AccountName"),
        "RequestedTimestamp": int(time.time()),
        "State": "IN_PROGRESS",
    }
    failed = asked | {"State": "FAILED", "FailureReason": "EMAIL_ALREADY_EXISTS"}
    ministack._create_statuses[asked["Id"]] = asked
    _later(lambda: _report(failed | {"CompletedTimestamp": int(time.time())}))
    return ministack._json(200, {"CreateAccountStatus": asked})


def _report(status: dict[str, Any]) -> None:
    ministack._create_statuses[status["Id"]] = status
    events.service_event(MANAGEMENT, "CreateAccountResult", {"createAccountStatus": events.as_recorded(status)})


def _make_access_role(account_id: str, name: str) -> None:
    principal = {"AWS": f"arn:aws:iam::{MANAGEMENT}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with request_scope(account_id, _REGION):
        iam._create_role({"RoleName": name, "AssumeRolePolicyDocument": trust})
        iam.attach_managed_policy(iam._roles[name], "arn:aws:iam::aws:policy/AdministratorAccess")


def _closed_later(close_account: Operation) -> Operation:
    """AWS closes an account some time after it was asked."""

    def close(request: dict[str, Any]) -> Answer:
        answer = close_account(request)
        if answer[0] != HTTPStatus.OK:
            return answer
        account_id, asked = request["AccountId"], time.time()
        set_account_state(account_id, "PENDING_CLOSURE")

        def complete() -> None:
            set_account_state(account_id, "CLOSED")
            status = {
                "accountId": account_id,
                "state": "SUCCEEDED",
                "requestedTimestamp": events.timestamp(asked),
                "completedTimestamp": events.timestamp(time.time()),
            }
            events.service_event(MANAGEMENT, "CloseAccountResult", {"closeAccountStatus": status})

        _later(complete)
        return answer

    return close


def _remove_account(request: dict[str, Any]) -> Answer:
    return _depart(request.get("AccountId", ""), "REMOVAL_REASONS")


def _leave_organization(_request: dict[str, Any]) -> Answer:
    return _depart(_caller.get(), "LEFT")


def _depart(account_id: str, method: str) -> Answer:
    """Forget an account, which keeps its roles, as on AWS."""
    if account_id == MANAGEMENT:
        return error_response_json(
            "MasterCannotLeaveOrganizationException", "The management account cannot leave.", 400
        )
    if ministack._accounts.pop(account_id, None) is None:
        return error_response_json("AccountNotFoundException", "You specified an account that doesn't exist.", 400)
    details = {"accountId": account_id, "departureMethod": method, "departureTime": _now()}
    _later(lambda: events.service_event(MANAGEMENT, "AccountDepartedOrganization", details))
    return ministack._json(200, {})


def _invite_account(request: dict[str, Any]) -> Answer:
    """Ask an account that exists to join, which it does by accepting; AWS makes no access role in it."""
    organization = ministack._orgs["self"]["Id"]
    handshake_id = "h-" + new_uuid().replace("-", "")[:12]
    handshake = {
        "Id": handshake_id,
        "Arn": f"arn:aws:organizations::{MANAGEMENT}:handshake/{organization}/invite/{handshake_id}",
        "Parties": [{"Id": organization, "Type": "ORGANIZATION"}, request["Target"]],
        "State": "OPEN",
        "RequestedTimestamp": int(time.time()),
        "ExpirationTimestamp": int(time.time()) + 15 * 86400,
        "Action": "INVITE",
        "Resources": [],
    }
    _handshakes[handshake_id] = handshake
    return ministack._json(200, {"Handshake": handshake})


def _accept_handshake(request: dict[str, Any]) -> Answer:
    handshake, account_id = _handshakes.get(request.get("HandshakeId", "")), _caller.get()
    if handshake is None or handshake["Parties"][1]["Id"] != account_id:
        return error_response_json(
            "HandshakeNotFoundException", "We can't find a handshake with that HandshakeId.", 400
        )
    if handshake["State"] != "OPEN":
        return error_response_json("HandshakeAlreadyInStateException", "The handshake is already accepted.", 400)
    handshake["State"] = "ACCEPTED"
    ministack._accounts[account_id] = {
        "Id": account_id,
        "Arn": f"arn:aws:organizations::{MANAGEMENT}:account/{ministack._orgs['self']['Id']}/{account_id}",
        "Email": f"{account_id}@example.com",
        "Name": f"invited-{account_id}",
        "JoinedMethod": "INVITED",
        "JoinedTimestamp": int(time.time()),
        "_ParentId": next(iter(ministack._roots)),
    }
    details = {"accountId": account_id, "joinedMethod": "INVITED", "joinedTime": _now()}
    _later(lambda: events.service_event(MANAGEMENT, "AccountJoinedOrganization", details))
    return ministack._json(200, {"Handshake": handshake})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
