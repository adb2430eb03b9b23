"""What changed since an earlier report of the same stage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chalicelib.accounts import Outcome
from rolecall.reasons import TITLE
from rolecall.report_data import AccountData, ReportData

GRANTED = "access granted"
REVOKED = "access revoked"
FAILING = "now failing"
RECOVERED = "no longer failing"
OTHER = "other outcome or reason"
JOINED = "joined the organization"
LEFT = "left the organization"
RENAMED = "renamed"
MOVED = "moved to another unit"
_KINDS = (REVOKED, GRANTED, FAILING, RECOVERED, OTHER, JOINED, LEFT, RENAMED, MOVED)
_TITLES: Mapping[str, str] = {str(reason): title for reason, title in TITLE.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountChange:
    """One change of an account: its kind, and what was before and is now."""

    account_id: str
    name: str
    kind: str
    before: str
    now: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingChange:
    """A setting, or the source policy, as it was before and is now."""

    name: str
    before: str
    now: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """All changes since an earlier report; an account is in each kind that applies to it."""

    earlier: ReportData
    kinds: tuple[tuple[str, tuple[AccountChange, ...]], ...]
    settings: tuple[SettingChange, ...]


def compare(earlier: ReportData, now: ReportData) -> Changes:
    """Return the changes between two reports."""
    then = {account.account_id: account for account in earlier.accounts}
    current = {account.account_id: account for account in now.accounts}
    found: dict[str, list[AccountChange]] = {kind: [] for kind in _KINDS}
    for account_id in dict.fromkeys([*current, *then]):
        for change in _changes(then.get(account_id), current.get(account_id)):
            found[change.kind].append(change)
    return Changes(
        earlier=earlier,
        kinds=tuple((kind, tuple(changes)) for kind, changes in found.items() if changes),
        settings=tuple(
            SettingChange(name=name, before=earlier.settings[name], now=value)
            for name, value in now.settings.items()
            if earlier.settings.get(name, value) != value
        ),
    )


def _changes(then: AccountData | None, now: AccountData | None) -> Iterator[AccountChange]:
    """Yield the changes of an account; None where a report doesn't have it."""
    named = now or then
    if named is None:
        return

    def change(kind: str, before: str, current: str) -> AccountChange:
        return AccountChange(account_id=named.account_id, name=named.name, kind=kind, before=before, now=current)

    had_access, has_access = then is not None and then.access, now is not None and now.access
    if had_access is not has_access:
        yield change(GRANTED if has_access else REVOKED, _status(then), _status(now))
    elif _status(then) != _status(now) and then and now:
        yield change(_kind(then, now), _status(then), _status(now))
    was_member, is_member = then is not None and then.ou_id != "", now is not None and now.ou_id != ""
    if was_member is not is_member:
        yield change(JOINED if is_member else LEFT, then.ou if then else "", now.ou if now else "")
    if then and now:
        if then.name != now.name:
            yield change(RENAMED, then.name, now.name)
        if was_member and is_member and then.ou_id != now.ou_id:
            yield change(MOVED, then.ou, now.ou)


def _kind(then: AccountData, now: AccountData) -> str:
    was_failing, is_failing = then.outcome == Outcome.FAILED, now.outcome == Outcome.FAILED
    if was_failing is is_failing:
        return OTHER
    return FAILING if is_failing else RECOVERED


def _status(account: AccountData | None) -> str:
    if account is None:
        return "not in the report"
    title = _TITLES.get(account.reason, account.reason)
    return f"{account.outcome}: {title}" if title else account.outcome
