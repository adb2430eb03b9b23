"""Which accounts the stub has: an account's first digit tells what its member role is."""

from enum import StrEnum


class Kind(StrEnum):
    """What the member role of an account is, whatever is done to it."""

    NEW = "new"
    UNCHANGED = "unchanged"
    DRIFTED = "drifted"


_FIRST_DIGIT = {Kind.NEW: "1", Kind.UNCHANGED: "2", Kind.DRIFTED: "3"}
_KIND = {digit: kind for kind, digit in _FIRST_DIGIT.items()}


def account_ids(kind: Kind, count: int, *, start: int = 0) -> list[str]:
    """List some accounts of a kind."""
    return [account_id(kind, start + number) for number in range(count)]


def account_id(kind: Kind, number: int) -> str:
    """Name the account of a kind and a number."""
    return f"{_FIRST_DIGIT[kind]}{number:011}"


def kind_of(account_id: str) -> Kind:
    """Tell of which kind an account is; what is none of ours is new."""
    return _KIND.get(account_id[0], Kind.NEW)
