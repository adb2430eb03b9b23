"""What operators and schedules request of the functions."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from chalicelib.arns import AccountId, is_account_id, is_ou_id
from chalicelib.errors import Reason, RequestError


class Selection(StrEnum):
    """Which accounts a request selects, if it doesn't list them."""

    ALL = "all"
    NEW = "new"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What an operator or a schedule requests; `after` is the account id that an earlier response to it ended with.

    With `adopt`, a dry run plans as if AdoptExistingRoles named every account.
    """

    accounts: Selection | tuple[AccountId, ...]
    ous: frozenset[str] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    dry_run: bool = False
    force: bool = False
    adopt: bool = False
    scheduled: bool = False
    after: str = ""


_KEYS = ("accounts", "ous", "reasons", "dry_run", "force", "adopt", "after")


def read_request(event: object, default: Selection) -> Request:
    """Parse a request, or a schedule's event as the default one; raise RequestError if it is malformed.

    An empty list is an error: it must not mean every account.
    """
    content = _object(event)
    if _is_scheduled(content):
        return Request(accounts=default, scheduled=True)
    unknown = sorted(set(content) - set(_KEYS))
    if unknown:
        raise RequestError(f"the request has the key {unknown[0]!r}: it may have {', '.join(_KEYS)}")
    accounts = _accounts(content.get("accounts", default))
    ous = frozenset(_each(content, "ous", lambda ou: ou if is_ou_id(ou) else None, "an id such as ou-ab12-11111111"))
    reasons = frozenset(
        _each(
            content,
            "reasons",
            lambda word: Reason(word) if word in set(Reason) else None,
            f"one of {', '.join(Reason)}",
        )
    )
    if isinstance(accounts, tuple) and (ous or reasons):
        raise RequestError("the request lists accounts: ous and reasons can only restrict all, new and failed")
    after = content.get("after", "")
    if after != "" and not is_account_id(after):
        raise RequestError(f"after is {after!r}: it must be the account id in the next of an earlier response")
    dry_run, adopt = _flag(content, "dry_run"), _flag(content, "adopt")
    if adopt and not dry_run:
        raise RequestError("adopt is only for a dry run: to adopt roles, set AdoptExistingRoles")
    return Request(
        accounts=accounts,
        ous=ous,
        reasons=reasons,
        dry_run=dry_run,
        force=_flag(content, "force"),
        adopt=adopt,
        after=after,
    )


def write_request(request: Request) -> dict[str, Any]:
    """Serialize a request as an operator would send it."""
    written: dict[str, Any] = {
        "accounts": request.accounts if isinstance(request.accounts, str) else list(request.accounts)
    }
    written |= {"ous": sorted(request.ous)} if request.ous else {}
    written |= {"reasons": sorted(request.reasons)} if request.reasons else {}
    flags = {"dry_run": request.dry_run, "force": request.force, "adopt": request.adopt}
    written |= {name: True for name, is_set in flags.items() if is_set}
    return written | ({"after": request.after} if request.after else {})


def read_freeze(event: object) -> bool:
    """Parse whether to freeze or unfreeze; raise RequestError if the request is malformed."""
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
            raise RequestError(f"accounts contains {each!r}: each must be a string of twelve digits")
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
            raise RequestError(f"{key} contains {value!r}: each must be {expected}")
        found.append(item)
    return found


def _flag(content: dict[str, Any], key: str) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"{key} is {value!r}: it must be true or false")
    return value
