"""AWS Organizations: asynchronous creation and closure, access roles, states, paths, pages, invitations, and events."""

import contextvars
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from emulator import events
from emulator.switches import SWITCHES
from ministack.core.responses import error_response_json, get_account_id, new_uuid, request_scope
from ministack.services import iam, tagging
from ministack.services import organizations as ministack

Response = tuple[int, dict[str, str], bytes]
Operation = Callable[[dict[str, Any]], Response]

MANAGEMENT = os.environ["MINISTACK_ACCOUNT_ID"]
_REGION = "us-east-1"
_PAGE_SIZE = 20
_OTHER_ORGANIZATION = "o-another000"
_MEMBER_OPERATIONS = {"DescribeOrganization", "AcceptHandshake", "LeaveOrganization"}
_STATUS_BY_STATE = {
    "PENDING_ACTIVATION": "SUSPENDED",
    "ACTIVE": "ACTIVE",
    "SUSPENDED": "SUSPENDED",
    "PENDING_CLOSURE": "PENDING_CLOSURE",
    "CLOSED": "SUSPENDED",
}
_ACCESSIBLE_STATES = {"ACTIVE", "PENDING_CLOSURE"}

_caller = contextvars.ContextVar("caller", default=MANAGEMENT)
_ready_at: dict[str, float] = {}
_handshakes: dict[str, dict[str, Any]] = {}


def organization_id_of(account_id: str) -> str | None:
    """Return the organization of an account, or None if it is in none."""
    if not ministack._accounts.contains_scoped(MANAGEMENT, None, account_id):
        return _OTHER_ORGANIZATION if account_id in SWITCHES.other_organization else None
    return str(ministack._orgs.get_scoped(MANAGEMENT, None, "self")["Id"])


def is_accessible(account_id: str) -> bool:
    """Whether the roles of an account can be assumed; not while it is being set up, suspended or closed.

    An account whose closure is pending remains functional ("Account states" in the "AWS Organizations User Guide").
    """
    account = ministack._accounts.get_scoped(MANAGEMENT, None, account_id, {})
    return time.time() >= _ready_at.get(account_id, 0) and account.get("State", "ACTIVE") in _ACCESSIBLE_STATES


def shorten_ready_delays() -> None:
    """Apply the current delay to accounts that are waiting for a longer one."""
    latest = time.time() + SWITCHES.ready_delay
    for account_id, at in list(_ready_at.items()):
        _ready_at[account_id] = min(at, latest)


def set_account_state(account_id: str, state: str) -> None:
    """Set the state of an account, which on AWS no API call does."""
    ministack._accounts.to_dict()[MANAGEMENT, account_id].update(State=state, Status=_STATUS_BY_STATE[state])


def age_account(account_id: str, seconds: float) -> None:
    """Move the time at which an account joined into the past."""
    ministack._accounts.to_dict()[MANAGEMENT, account_id]["JoinedTimestamp"] -= seconds


def create_organization() -> None:
    """Create the organization with its management account, also after a reset."""
    _ready_at.clear()
    _handshakes.clear()
    with request_scope(MANAGEMENT, _REGION):
        ministack._ensure_org()


def patch() -> None:
    """Wrap ministack's operations, and add those that it lacks."""
    operations = ministack._DISPATCH
    operations["CreateAccount"] = _create_asynchronously(operations["CreateAccount"])
    operations["CloseAccount"] = _close_asynchronously(operations["CloseAccount"])
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
        operations[name] = _paginated(operations[name], member)
    for name in list(operations):
        operations[name] = _with_event(name, operations[name])
    ministack._public_account = _public_account
    tagging._COLLECTORS["organizations"] = _tagged_resources
    ministack.handle_request = _in_one_organization(ministack.handle_request)
    create_organization()


def _tagged_resources() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the accounts and organizational units that have or had tags, which ministack's tagging API lacks."""
    for resource_id, tags in ministack._tags.items():
        resource = ministack._accounts.get(resource_id) or ministack._ous.get(resource_id)
        if resource is not None:
            yield resource["Arn"], [{"Key": key, "Value": value} for key, value in tags.items()]


def _in_one_organization(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """Give all accounts one organization, in which member accounts may call few operations."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Response:
        caller = get_account_id()
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if caller != MANAGEMENT and operation not in _MEMBER_OPERATIONS:
            return error_response_json(
                "AccessDeniedException", "You don't have permissions to access this resource.", 400
            )
        token = _caller.set(caller)
        try:
            with request_scope(MANAGEMENT, _REGION):
                response: Response = await handle_request(method, path, headers, body, query)
                return response
        finally:
            _caller.reset(token)

    return handle


def _with_event(name: str, operation: Operation) -> Operation:
    """Emit an event for every write, also a failed one; for LeaveOrganization only the leaving account gets one."""

    def call(request: dict[str, Any]) -> Response:
        response = operation(request)
        body = json.loads(response[2] or b"{}")
        if response[0] == HTTPStatus.OK:
            outcome = {"responseElements": events.as_recorded(body) or None}
        else:
            outcome = {"errorCode": body["__type"].removesuffix("Exception"), "errorMessage": body["message"]}
        events.api_call(MANAGEMENT, _caller.get(), name, request, outcome)
        return response

    return operation if name.startswith(("Describe", "List")) or name == "LeaveOrganization" else call


def _public_account(record: dict[str, Any]) -> dict[str, Any]:
    """Return an account with the State, Status and Paths that AWS returns."""
    state = record.get("State", "ACTIVE")
    public = {key: value for key, value in record.items() if not key.startswith("_") and key != "Path"}
    return public | {"State": state, "Status": _STATUS_BY_STATE[state], "Paths": [_path_of(record)]}


def _path_of(record: dict[str, Any]) -> str:
    return "/".join([ministack._orgs["self"]["Id"], *levels_above(record["Id"])]) + "/"


def levels_above(account_id: str) -> list[str]:
    """Return the root, the organizational units and the account itself; an empty list outside the organization."""
    levels = []
    level = account_id
    while record := ministack._accounts.get(level) or ministack._ous.get(level):
        levels.append(level)
        level = record["_ParentId"]
    return [level, *reversed(levels)] if levels else []


def _paginated(list_all: Operation, member: str) -> Operation:
    """Return pages of 20 entries, of which one is empty and has a NextToken, without hidden accounts."""

    def list_page(request: dict[str, Any]) -> Response:
        status, headers, body = list_all(request)
        if status != HTTPStatus.OK:
            return status, headers, body
        token = request.get("NextToken", "page-0")
        kind, _, offset = token.partition("-")
        if kind not in {"page", "empty"} or not offset.isdigit():
            return error_response_json("InvalidInputException", "You specified an invalid value for nextToken.", 400)
        start, size = int(offset), min(request.get("MaxResults", _PAGE_SIZE), _PAGE_SIZE)
        entries = [each for each in json.loads(body)[member] if each["Id"] not in SWITCHES.hidden_accounts]
        if kind == "empty":
            return ministack._json(200, {member: [], "NextToken": f"page-{start}"})
        page: dict[str, Any] = {member: entries[start : start + size]}
        if start + size < len(entries):
            page["NextToken"] = f"{'page' if start else 'empty'}-{start + size}"
        return ministack._json(200, page)

    return list_page


def _list_children(request: dict[str, Any]) -> Response:
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


def _create_asynchronously(create_account: Operation) -> Operation:
    """Create the account after the response, with an access role that can be assumed soon afterwards."""

    def create(request: dict[str, Any]) -> Response:
        response = create_account(request)
        if response[0] != HTTPStatus.OK:
            return response
        status = json.loads(response[2])["CreateAccountStatus"]
        pending = {key: status[key] for key in ("Id", "AccountName", "RequestedTimestamp")} | {"State": "IN_PROGRESS"}
        ministack._create_statuses[status["Id"]] = pending
        account_id = status["AccountId"]
        ministack._accounts[account_id]["State"] = "PENDING_ACTIVATION"

        def complete() -> None:
            _create_access_role(account_id, request.get("RoleName") or "OrganizationAccountAccessRole")
            _ready_at[account_id] = time.time() + SWITCHES.ready_delay
            ministack._accounts[account_id]["State"] = "ACTIVE"
            completed = status | {"CompletedTimestamp": int(time.time())}
            ministack._create_statuses[status["Id"]] = completed
            details = {"createAccountStatus": events.as_recorded(completed)}
            events.service_event(MANAGEMENT, "CreateAccountResult", details)

        _later(complete)
        return ministack._json(200, {"CreateAccountStatus": pending})

    return create


def _create_access_role(account_id: str, name: str) -> None:
    principal = {"AWS": f"arn:aws:iam::{MANAGEMENT}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with request_scope(account_id, _REGION):
        iam._create_role({"RoleName": name, "AssumeRolePolicyDocument": trust})
        iam.attach_managed_policy(iam._roles[name], "arn:aws:iam::aws:policy/AdministratorAccess")


def _close_asynchronously(close_account: Operation) -> Operation:
    """Close the account after the response."""

    def close(request: dict[str, Any]) -> Response:
        response = close_account(request)
        if response[0] != HTTPStatus.OK:
            return response
        account_id, requested_at = request["AccountId"], time.time()
        set_account_state(account_id, "PENDING_CLOSURE")

        def complete() -> None:
            set_account_state(account_id, "CLOSED")
            status = {
                "accountId": account_id,
                "state": "SUCCEEDED",
                "requestedTimestamp": events.timestamp(requested_at),
                "completedTimestamp": events.timestamp(time.time()),
            }
            events.service_event(MANAGEMENT, "CloseAccountResult", {"closeAccountStatus": status})

        _later(complete)
        return response

    return close


def _remove_account(request: dict[str, Any]) -> Response:
    return _depart(request.get("AccountId", ""), "REMOVAL_REASONS")


def _leave_organization(_request: dict[str, Any]) -> Response:
    return _depart(_caller.get(), "LEFT")


def _depart(account_id: str, method: str) -> Response:
    """Remove an account from the organization; its roles stay, as on AWS."""
    if account_id == MANAGEMENT:
        return error_response_json(
            "MasterCannotLeaveOrganizationException", "The management account cannot leave.", 400
        )
    if ministack._accounts.pop(account_id, None) is None:
        return error_response_json("AccountNotFoundException", "You specified an account that doesn't exist.", 400)
    details = {"accountId": account_id, "departureMethod": method, "departureTime": _now()}
    _later(lambda: events.service_event(MANAGEMENT, "AccountDepartedOrganization", details))
    return ministack._json(200, {})


def _invite_account(request: dict[str, Any]) -> Response:
    """Invite an existing account; it joins by accepting, and AWS creates no access role in it."""
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


def _accept_handshake(request: dict[str, Any]) -> Response:
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
