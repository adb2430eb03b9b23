"""Which accounts each shard should grant, given the rows, and what to write now so that no account loses access."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import ShardContent


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The content that each shard should have, and the accounts that found no room (to be granted, or to be excluded)."""

    contents: tuple[ShardContent, ...]
    unassigned: tuple[AccountId, ...] = ()


def assign(
    current: Sequence[ShardContent],
    rows: Mapping[Access, Collection[AccountId]],
    settings: Settings,
    *,
    scope: Scope,
    max_shards: int,
    full: Collection[int] = (),
) -> Assignment:
    """Return what the shards should grant, given the rows' accounts by access.

    An account keeps its shard while it fits; newcomers fill the first shards with room, in the order of their ids. Accounts
    without a row keep what they have. Shards whose index is in `full` take no newcomers.
    """
    if scope is Scope.ORGANIZATION:
        return _assign_organization(current, rows, settings, max_shards=max_shards)
    limit = capacity(settings)
    revoked = {*rows.get(Access.NONE, ()), *rows.get(Access.EXCLUDED, ())}
    seen: set[AccountId] = set()
    kept: list[list[AccountId]] = []
    waiting = set(rows.get(Access.GRANTED, ()))
    for content in current:
        mine = sorted(content.accounts - revoked - seen)
        kept.append(mine[:limit])
        # What doesn't fit stays in a later shard that has it already.
        seen.update(mine[:limit])
        waiting.update(mine[limit:])
    newcomers = sorted(waiting.difference(*kept), reverse=True)
    for index, accounts in enumerate(kept):
        if index not in full:
            accounts.extend(newcomers.pop() for _ in range(min(limit - len(accounts), len(newcomers))))
    while newcomers and len(kept) < max_shards:
        kept.append([newcomers.pop() for _ in range(min(limit, len(newcomers)))])
    contents = tuple(ShardContent(accounts=frozenset(accounts)) for accounts in kept)
    return Assignment(contents=contents, unassigned=tuple(reversed(newcomers)))


def _assign_organization(
    current: Sequence[ShardContent],
    rows: Mapping[Access, Collection[AccountId]],
    settings: Settings,
    *,
    max_shards: int,
) -> Assignment:
    if not current and not (rows.get(Access.GRANTED) and max_shards):
        return Assignment(contents=(), unassigned=tuple(sorted(rows.get(Access.GRANTED, ()))))
    static = {AccountId(account_id) for account_id in settings.exclude_account_ids}
    # The accounts of the settings were checked to fit; of the others, those that are excluded already come first.
    held = current[0].excluded if current else frozenset[AccountId]()
    # An account without a row stays excluded.
    kept = held.difference(rows.get(Access.GRANTED, ()), rows.get(Access.NONE, ()))
    listed = sorted({*rows.get(Access.EXCLUDED, ()), *kept} - static, key=lambda each: (each not in held, each))
    room = max(exclusion_capacity(settings) - len(static), 0)
    first = ShardContent(excluded=frozenset(listed[:room]) | static, scope=Scope.ORGANIZATION)
    return Assignment(contents=(first, *(ShardContent() for _ in current[1:])), unassigned=tuple(listed[room:]))


def interim(
    current: ShardContent,
    desired: ShardContent,
    others: Sequence[ShardContent],
    is_granted: Callable[[AccountId], bool],
) -> ShardContent:
    """Return the content to write now: desired, but nothing that another shard is to grant leaves before that is recorded.

    `others` are the other shards' desired contents, and `is_granted` is whether their records grant an account.
    """
    if current.scope is Scope.ORGANIZATION and desired.scope is Scope.ACCOUNTS:
        moving = {account_id for other in others for account_id in other.accounts}
        return desired if all(map(is_granted, moving)) else replace(current, frozen=desired.frozen)
    leaving = current.accounts - desired.accounts
    staying = {each for each in leaving if any(other.grants(each) for other in others) and not is_granted(each)}
    return replace(desired, accounts=desired.accounts | staying)
