"""The accounts of the stub: an account id's first digit is the state of its member role."""

from enum import StrEnum


class RoleState(StrEnum):
    """The state of an account's member role; calls don't change it."""

    NEW = "new"
    UNCHANGED = "unchanged"
    DRIFTED = "drifted"


_FIRST_DIGIT = {RoleState.NEW: "1", RoleState.UNCHANGED: "2", RoleState.DRIFTED: "3"}
_STATE = {digit: role_state for role_state, digit in _FIRST_DIGIT.items()}


def account_ids(role_state: RoleState, count: int, *, start: int = 0) -> list[str]:
    """Return the ids of accounts with this role state."""
    return [account_id(role_state, start + number) for number in range(count)]


def account_id(role_state: RoleState, number: int) -> str:
    """Return the id of an account by its role state and number."""
    return f"{_FIRST_DIGIT[role_state]}{number:011}"


def role_state_of(account_id: str) -> RoleState:
    """Return the role state of an account; NEW if the first digit is unknown."""
    return _STATE.get(account_id[0], RoleState.NEW)
