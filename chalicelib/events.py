"""The events about accounts and about the policies that restrict them, and where each contains an account's id.

Organizations and Control Tower deliver them through CloudTrail on a best-effort basis ("AWS Organizations events" in the
EventBridge reference), so an event is only a hint: each account is described before anything is changed.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

from chalicelib.arns import AccountId, is_account_id

_JOINING_EVENTS = ("CreateAccountResult", "AccountJoinedOrganization", "AcceptHandshake")
_POLICY_EVENTS = frozenset(
    {"AttachPolicy", "DetachPolicy", "UpdatePolicy", "EnablePolicyType", "DisablePolicyType", "MoveAccount"}
)
_CONTROL_POLICIES = frozenset({"SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY"})
_ID_KEYS = ("accountid", ".account", "account.id")
_LARGEST_ID = 10**12
# Accounts in "Actions, resources, and condition keys for AWS Organizations"
_ACCOUNT_ARN = re.compile(r"arn:aws[a-z-]*:organizations::[0-9]{12}:account/o-[a-z0-9]+/([0-9]{12})")
_SEARCH_LIMIT = 1000  # values; an event has some sixty


def account_ids(event: object, tag_keys: Collection[str] = ()) -> list[AccountId]:
    """Return the accounts that an event is about: none if it is about no change, or is malformed.

    Tags of other keys than `tag_keys` change nothing.
    """
    if not isinstance(event, dict):
        return []
    detail = _mapping(event.get("detail"))
    if detail.get("errorCode"):
        return []
    name = detail.get("eventName")
    parser = _PARSERS.get(name) if isinstance(name, str) else None
    if parser is None:
        return []
    if parser is _tagged and not _changes_tags(detail, tag_keys):
        return []
    # Only a tag can be set on the management account.
    not_meant = [] if parser is _tagged else [event.get("account")]
    if parser not in {_accepted, _tagged}:  # An invitation is accepted by the account that it is about.
        not_meant.append(detail.get("recipientAccountId"))
    if parser not in {_accepted, _anywhere, _tagged}:  # A member that leaves calls LeaveOrganization itself.
        not_meant.append(_at(detail, "userIdentity").get("accountId"))
    found = (value for value in parser(detail) if is_account_id(value) and value not in not_meant)
    return [AccountId(value) for value in dict.fromkeys(found)]


def is_membership_event(event: object) -> bool:
    """Whether an event is about an account that joined or left the organization."""
    detail = _mapping(_mapping(event).get("detail"))
    name = detail.get("eventName")
    return isinstance(name, str) and _PARSERS.get(name) is _anywhere and not detail.get("errorCode")


def reports_member(event: object) -> bool:
    """Whether an event with an account is about one that joined the organization."""
    return _mapping(_mapping(event).get("detail")).get("eventName") in _JOINING_EVENTS


def changes_control_policies(event: object) -> bool:
    """Whether other service or resource control policies may apply since an event.

    That of an attachment doesn't contain the policy's type; an account that is moved is below other policies.
    """
    detail = _mapping(_mapping(event).get("detail"))
    name = detail.get("eventName")
    if not isinstance(name, str) or name not in _POLICY_EVENTS or detail.get("errorCode"):
        return False
    policy = _at(detail, "responseElements", "policy", "policySummary")
    types = (_at(detail, "requestParameters").get("policyType"), policy.get("type"))
    return all(each is None or (isinstance(each, str) and each in _CONTROL_POLICIES) for each in types)


def _created(detail: dict[str, Any]) -> Iterator[Any]:
    status = _at(detail, "serviceEventDetails", "createAccountStatus")
    if status.get("state") == "SUCCEEDED":
        yield status.get("accountId")


def _closed(detail: dict[str, Any]) -> Iterator[Any]:
    status = _at(detail, "serviceEventDetails", "closeAccountStatus")
    if status.get("state") == "SUCCEEDED":
        yield status.get("accountId")


def _managed(status_key: str) -> Callable[[dict[str, Any]], Iterator[Any]]:
    def parse(detail: dict[str, Any]) -> Iterator[Any]:
        status = _at(detail, "serviceEventDetails", status_key)
        if status.get("state") == "SUCCEEDED":
            yield _at(status, "account").get("accountId")

    return parse


def _requested(detail: dict[str, Any]) -> Iterator[Any]:
    yield _at(detail, "requestParameters").get("accountId")


def _targeted(detail: dict[str, Any]) -> Iterator[Any]:
    yield _at(detail, "requestParameters").get("targetId")  # an account, an organizational unit or the root


def _tagged(detail: dict[str, Any]) -> Iterator[Any]:
    yield _at(detail, "requestParameters").get("resourceId")  # an account, an organizational unit, the root or a policy


def _changes_tags(detail: dict[str, Any], keys: Collection[str]) -> bool:
    """Whether a tag of one of the keys was set or removed; also if the event doesn't contain which."""
    request = _at(detail, "requestParameters")
    tags, removed = (each if isinstance(each, list) else [] for each in (request.get("tags"), request.get("tagKeys")))
    changed = [*(_mapping(tag).get("key") for tag in tags), *removed]
    known = {key for key in changed if isinstance(key, str)}
    return bool(keys) and (not known or not known.isdisjoint(keys))


def _accepted(detail: dict[str, Any]) -> Iterator[Any]:
    handshake = _at(detail, "responseElements", "handshake")
    parties = handshake.get("parties")
    if handshake.get("state") == "ACCEPTED" and isinstance(parties, list):
        yield from (_mapping(party).get("id") for party in parties if _mapping(party).get("type") == "ACCOUNT")


def _anywhere(detail: dict[str, Any]) -> Iterator[Any]:
    """Yield every account id at any depth, or the caller's if there is no other.

    AccountJoinedOrganization and AccountDepartedOrganization are documented by name, but not where they contain the id: it may
    be under a key that ends in "accountId", under "account" or its "id", a number, or part of an ARN.
    """
    found: list[Any] = list(_ids_in(detail, except_for=("userIdentity", "recipientAccountId")))
    yield from found or [_at(detail, "userIdentity").get("accountId")]


def _ids_in(content: Any, except_for: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - any JSON
    pending: deque[tuple[str, Any]] = deque([("", content)])
    for _ in range(_SEARCH_LIMIT):
        if not pending:
            return
        path, value = pending.popleft()
        if isinstance(value, list):
            pending.extend((path, each) for each in value[:_SEARCH_LIMIT])
        elif node := _mapping(value):
            above = path.rpartition(".")[2]
            pending.extend((f"{above}.{key}".lower(), each) for key, each in node.items() if key not in except_for)
        elif path.endswith(_ID_KEYS):
            yield f"{value:012}" if type(value) is int and 0 <= value < _LARGEST_ID else str(value)
        elif isinstance(value, str) and (named := _ACCOUNT_ARN.fullmatch(value)):
            yield named[1]


_Parser: TypeAlias = Callable[[dict[str, Any]], Iterator[Any]]

_PARSERS: dict[str, _Parser] = {
    "CreateAccountResult": _created,
    "AccountJoinedOrganization": _anywhere,
    "AcceptHandshake": _accepted,
    "MoveAccount": _requested,
    "CloseAccount": _requested,
    "CloseAccountResult": _closed,
    "RemoveAccountFromOrganization": _requested,
    "AccountDepartedOrganization": _anywhere,
    "CreateManagedAccount": _managed("createManagedAccountStatus"),
    "UpdateManagedAccount": _managed("updateManagedAccountStatus"),
    "AttachPolicy": _targeted,
    "DetachPolicy": _targeted,
    "TagResource": _tagged,
    "UntagResource": _tagged,
}

# The detail-type is left open: whether joined and departed come as API calls or service events is not documented.
PATTERN: dict[str, Any] = {
    "source": ["aws.organizations", "aws.controltower"],
    "detail": {"eventName": sorted(_PARSERS.keys() | _POLICY_EVENTS), "errorCode": [{"exists": False}]},
}


def _at(node: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        node = _mapping(node.get(key))
    return node


def _mapping(value: object) -> dict[str, Any]:
    """Return an object, also from the JSON string that some relays convert it to; return an empty one for anything else."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}
