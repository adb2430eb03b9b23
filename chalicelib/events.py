"""The events about accounts, and where each contains the account's id.

Organizations and Control Tower deliver them through CloudTrail on a best-effort basis ("AWS Organizations events" in the
EventBridge reference), so an event is only a hint: each account is described before anything is changed.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from chalicelib.arns import AccountId, is_account_id

_SEARCH_LIMIT = 1000  # values; an event has some sixty


def account_ids(event: object) -> list[AccountId]:
    """Return the accounts that an event is about: none if it is about no change, or is malformed."""
    if not isinstance(event, dict):
        return []
    detail = _mapping(event.get("detail"))
    if detail.get("errorCode"):
        return []
    name = detail.get("eventName")
    parser = _PARSERS.get(name) if isinstance(name, str) else None
    if parser is None:
        return []
    callers = [event.get("account")]
    if parser is not _accepted:  # An invitation is accepted by the account that it is about.
        callers += [detail.get("recipientAccountId"), _at(detail, "userIdentity").get("accountId")]
    found = (value for value in parser(detail) if is_account_id(value) and value not in callers)
    return [AccountId(value) for value in dict.fromkeys(found)]


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


def _accepted(detail: dict[str, Any]) -> Iterator[Any]:
    handshake = _at(detail, "responseElements", "handshake")
    parties = handshake.get("parties")
    if handshake.get("state") == "ACCEPTED" and isinstance(parties, list):
        yield from (_mapping(party).get("id") for party in parties if _mapping(party).get("type") == "ACCOUNT")


def _anywhere(detail: dict[str, Any]) -> Iterator[Any]:
    """Yield every `accountId` at any depth, except the caller's.

    AccountJoinedOrganization and AccountDepartedOrganization are documented by name, but not where they contain the id.
    """
    pending: list[Any] = [detail]
    for _ in range(_SEARCH_LIMIT):
        if not pending:
            return
        value = pending.pop()
        node = {key: each for key, each in _mapping(value).items() if key != "userIdentity"}
        yield from (each for key, each in node.items() if key.lower() == "accountid")
        pending.extend(node.values())
        if isinstance(value, list):
            pending.extend(value[:_SEARCH_LIMIT])


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
}

# The detail-type is left open: whether joined and departed come as API calls or service events is not documented.
PATTERN: dict[str, Any] = {
    "source": ["aws.organizations", "aws.controltower"],
    "detail": {"eventName": list(_PARSERS), "errorCode": [{"exists": False}]},
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
