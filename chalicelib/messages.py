"""The messages on the accounts queue: one names one account."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from chalicelib.accounts import Account
from chalicelib.arns import AccountId, is_account_id
from chalicelib.errors import MessageError


class Trigger(StrEnum):
    """Why a message was sent; it is recorded, and decides nothing."""

    EVENT = "event"
    BACKFILL = "backfill"
    RERUN = "rerun"
    RESYNC = "resync"
    RETIRE = "retire"


class Message(NamedTuple):
    """One account to reconcile; a message of a sweep also contains the listed account, and when it was listed.

    `first_seen_at` is when an event announced that the account joined, or a resync first listed it. With `rolls_out`, a wave or an
    operator chose the account: its role is changed to the current settings, which other messages leave to a wave.
    """

    account_id: AccountId
    trigger: Trigger
    account: Account | None = None
    listed_at: datetime | None = None
    first_seen_at: datetime | None = None
    rolls_out: bool = False


def write_message(message: Message) -> str:
    """Serialize a message."""
    body: dict[str, Any] = {"account_id": message.account_id, "trigger": message.trigger}
    if message.account is not None and message.listed_at is not None:
        account = message.account
        body["account"] = {
            "name": account.name,
            "state": account.state,
            "joined_at": account.joined_at.isoformat() if account.joined_at else None,
            "ou_ids": account.ou_ids,
            **({} if account.tags is None else {"tags": dict(account.tags)}),
        }
        body["listed_at"] = message.listed_at.isoformat()
    if message.first_seen_at is not None:
        body["first_seen_at"] = message.first_seen_at.isoformat()
    if message.rolls_out:
        body["rolls_out"] = True
    return json.dumps(body, separators=(",", ":"))


def read_message(body: str) -> Message:
    """Parse a message; raise MessageError if it is malformed.

    Further keys are ignored, as are a malformed listing (then the account is described) and a malformed time.
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
    first_seen_at = _time(content.get("first_seen_at"))
    return Message(account_id, trigger, account, listed_at, first_seen_at, content.get("rolls_out") is True)


def _time(written: object) -> datetime | None:
    try:
        read = datetime.fromisoformat(written) if isinstance(written, str) else None
    except ValueError:
        return None
    return read if read is not None and read.tzinfo else None


def _listing(account_id: AccountId, content: dict[str, Any]) -> tuple[Account, datetime] | tuple[None, None]:
    try:
        listed, listed_at = content["account"], datetime.fromisoformat(content["listed_at"])
        joined_at = datetime.fromisoformat(listed["joined_at"]) if listed["joined_at"] else None
        ou_ids, tags = listed["ou_ids"], listed.get("tags")
        account = Account(
            id=account_id,
            name=str(listed["name"]),
            state=str(listed["state"]),
            joined_at=joined_at,
            ou_ids=None if ou_ids is None else tuple(str(ou_id) for ou_id in ou_ids),
            tags=None if tags is None else {key: None if tag is None else str(tag) for key, tag in tags.items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None, None
    # A time without a time zone can't be compared.
    return (account, listed_at) if listed_at.tzinfo and (joined_at is None or joined_at.tzinfo) else (None, None)
