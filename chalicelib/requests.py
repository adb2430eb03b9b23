"""What is asked of Rolecall: operators' requests, and the messages on the queue."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from chalicelib.accounts import Account
from chalicelib.arns import AccountId, is_account_id
from chalicelib.errors import MessageError, Reason, RequestError


class Trigger(StrEnum):
    """Why a message was sent; recorded, and never decided by."""

    EVENT = "event"
    BACKFILL = "backfill"
    RERUN = "rerun"
    RESYNC = "resync"
    RETIRE = "retire"


class Selection(StrEnum):
    """Which accounts a sweep is about, where they are not named one by one."""

    ALL = "all"
    NEW = "new"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What an operator or a schedule asks for; `after` is the account id that an earlier answer of the same request ended at."""

    accounts: Selection | tuple[AccountId, ...]
    ous: frozenset[str] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    dry_run: bool = False
    force: bool = False
    scheduled: bool = False
    after: str = ""


_OU_ID = re.compile(r"ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")
_KEYS = ("accounts", "ous", "reasons", "dry_run", "force", "after")


def read_request(event: object, default: Selection) -> Request:
    """Read a request, or a schedule's event as the default one; a RequestError says what is wrong with it.

    An empty list is refused: it must never mean everyone.
    """
    content = _object(event)
    if _is_scheduled(content):
        return Request(accounts=default, scheduled=True)
    unknown = sorted(set(content) - set(_KEYS))
    if unknown:
        raise RequestError(f"the request has the key {unknown[0]!r}: it may have {', '.join(_KEYS)}")
    accounts = _accounts(content.get("accounts", default))
    ous = frozenset(
        _each(content, "ous", lambda ou: ou if _OU_ID.fullmatch(ou) else None, "an id such as ou-ab12-11111111")
    )
    reasons = frozenset(
        _each(
            content,
            "reasons",
            lambda word: Reason(word) if word in set(Reason) else None,
            f"one of {', '.join(Reason)}",
        )
    )
    if isinstance(accounts, tuple) and (ous or reasons):
        raise RequestError("the request names accounts one by one: ous and reasons narrow only all, new and failed")
    after = content.get("after", "")
    if after != "" and not is_account_id(after):
        raise RequestError(f"after is {after!r}: it must be the account id that an earlier answer's next holds")
    return Request(
        accounts=accounts,
        ous=ous,
        reasons=reasons,
        dry_run=_flag(content, "dry_run"),
        force=_flag(content, "force"),
        after=after,
    )


def write_request(request: Request) -> dict[str, Any]:
    """Write a request as an operator would send it."""
    written: dict[str, Any] = {
        "accounts": request.accounts if isinstance(request.accounts, str) else list(request.accounts)
    }
    written |= {"ous": sorted(request.ous)} if request.ous else {}
    written |= {"reasons": sorted(request.reasons)} if request.reasons else {}
    written |= {name: True for name, asked in (("dry_run", request.dry_run), ("force", request.force)) if asked}
    return written | ({"after": request.after} if request.after else {})


def read_freeze(event: object) -> bool:
    """Read whether to freeze or unfreeze; a RequestError says what is wrong."""
    content = _object(event)
    if set(content) != {"frozen"} or not isinstance(content["frozen"], bool):
        raise RequestError('the request must be {"frozen": true} or {"frozen": false}')
    return bool(content["frozen"])


def _object(event: object) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise RequestError("the request must be a JSON object")
    return event


def _is_scheduled(content: dict[str, Any]) -> bool:
    return content.get("source") == "aws.events" and content.get("detail-type") == "Scheduled Event"


def _accounts(value: object) -> Selection | tuple[AccountId, ...]:
    if isinstance(value, str):
        if value not in set(Selection):
            raise RequestError(
                f"accounts is {value!r}: it must be a list of account ids, or one of {', '.join(Selection)}"
            )
        return Selection(value)
    if not isinstance(value, list) or not value:
        raise RequestError(
            f"accounts is {value!r}: it must be a list of at least one account id, or one of {', '.join(Selection)}"
        )
    for each in value:
        if not is_account_id(each):
            raise RequestError(f"accounts holds {each!r}: each must be a string of twelve digits")
    return tuple(dict.fromkeys(AccountId(each) for each in value))


_T = TypeVar("_T")


def _each(content: dict[str, Any], key: str, read: Callable[[str], _T | None], expected: str) -> list[_T]:
    if key not in content:
        return []
    values = content[key]
    if not isinstance(values, list) or not values:
        raise RequestError(f"{key} is {values!r}: it must be a list of at least one, each {expected}")
    found = []
    for value in values:
        item = read(value) if isinstance(value, str) else None
        if item is None:
            raise RequestError(f"{key} holds {value!r}: each must be {expected}")
        found.append(item)
    return found


def _flag(content: dict[str, Any], key: str) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"{key} is {value!r}: it must be true or false")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One account to reconcile; a listing's message also carries the account as it was listed, and when."""

    account_id: AccountId
    trigger: Trigger
    account: Account | None = None
    listed_at: datetime | None = None


def write_message(message: Message) -> str:
    """Write a message as the queue carries it."""
    body: dict[str, Any] = {"account_id": message.account_id, "trigger": message.trigger}
    if message.account is not None and message.listed_at is not None:
        account = message.account
        body["account"] = {
            "name": account.name,
            "state": account.state,
            "joined_at": account.joined_at.isoformat() if account.joined_at else None,
            "ou_ids": account.ou_ids,
        }
        body["listed_at"] = message.listed_at.isoformat()
    return json.dumps(body, separators=(",", ":"))


def read_message(body: str) -> Message:
    """Read a message off the queue; a MessageError says what is wrong with one that is not ours.

    A key that a later release adds is passed over, and a listing that can't be read is worth nothing: the account is looked
    up instead.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        message = "the message is not JSON"
        raise MessageError(message) from None
    if not isinstance(content, dict) or not is_account_id(content.get("account_id")):
        message = "the message's account_id is not an account id of twelve digits"
        raise MessageError(message)
    account_id = AccountId(content["account_id"])
    try:
        trigger = Trigger(str(content.get("trigger")))
    except ValueError:
        message = f"the message's trigger is not one of {', '.join(Trigger)}"
        raise MessageError(message) from None
    account, listed_at = _listing(account_id, content)
    return Message(account_id=account_id, trigger=trigger, account=account, listed_at=listed_at)


def _listing(account_id: AccountId, content: dict[str, Any]) -> tuple[Account, datetime] | tuple[None, None]:
    try:
        listed, listed_at = content["account"], datetime.fromisoformat(content["listed_at"])
        joined_at = datetime.fromisoformat(listed["joined_at"]) if listed["joined_at"] else None
        ou_ids = listed["ou_ids"]
        account = Account(
            id=account_id,
            name=str(listed["name"]),
            state=str(listed["state"]),
            joined_at=joined_at,
            ou_ids=None if ou_ids is None else tuple(str(ou_id) for ou_id in ou_ids),
        )
    except (KeyError, TypeError, ValueError):
        return None, None
    # A time without a zone can't be compared; ours always have one.
    return (account, listed_at) if listed_at.tzinfo and (joined_at is None or joined_at.tzinfo) else (None, None)
