"""A dry run: what would become of each account and of the source policy, as the deployed functions tell it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chalicelib.accounts import Change, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy import Moves, capacity, place
from rolecall.stage import Stage


class Kind(StrEnum):
    """What a plan means for an account, in the words of its summary."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RETIRE = "retire"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILING = "failing"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedAccount:
    """Where an account would stand, what would be done to its role, and whether it joins or leaves the source policy."""

    account_id: AccountId
    name: str | None = None
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    actions: tuple[Mapping[str, Any], ...] = ()
    joins: bool = False
    leaves: bool = False

    @property
    def kind(self) -> Kind:
        """Say what the plan means for the account."""
        if self.outcome is Outcome.FAILED or self.error:
            return Kind.FAILING
        if self.change is not Change.NONE:
            return _OF_CHANGE[self.change]
        if self.leaves:
            return Kind.RETIRE
        if self.joins:
            return Kind.UPDATE  # Its role is right already, and the source policy doesn't name it yet.
        return Kind.UNCHANGED if self.outcome is Outcome.ENROLLED else Kind.SKIPPED


_OF_CHANGE = {Change.CREATED: Kind.CREATE, Change.UPDATED: Kind.UPDATE, Change.DELETED: Kind.DELETE}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """How a shard of the source policy would be filled, and by whom."""

    policy_name: str
    accounts: int
    capacity: int
    joining: tuple[AccountId, ...] = ()
    leaving: tuple[AccountId, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What would become of some accounts, by id, and of the source policy."""

    accounts: tuple[PlannedAccount, ...]
    source_policy: tuple[PlannedShard, ...]

    @property
    def counts(self) -> Counter[Kind]:
        """Count the accounts by what the plan means for them."""
        return Counter(account.kind for account in self.accounts)

    @property
    def summary(self) -> str:
        """Say all of it in one line."""
        counts = self.counts
        parts = [f"{counts[kind]} to {kind}" for kind in (Kind.CREATE, Kind.UPDATE, Kind.DELETE)]
        parts += [f"{counts[Kind.RETIRE]} to retire"] if counts[Kind.RETIRE] else []
        parts += [f"{counts[kind]} {kind}" for kind in (Kind.UNCHANGED, Kind.SKIPPED, Kind.FAILING)]
        return f"Plan: {', '.join(parts)}."

    @property
    def exit_status(self) -> int:
        """Tell a shell: 1 where an account would fail."""
        return int(self.counts[Kind.FAILING] > 0)

    def as_json(self) -> dict[str, Any]:
        """Write all of it as plain data."""
        return {
            "accounts": [
                {
                    "account_id": account.account_id,
                    "name": account.name,
                    "plan": account.kind,
                    "outcome": account.outcome,
                    "change": account.change,
                    "reason": account.reason,
                    "error": account.error,
                    "actions": list(account.actions),
                }
                for account in self.accounts
            ],
            "source_policy": [
                {
                    "policy_name": shard.policy_name,
                    "accounts": shard.accounts,
                    "capacity": shard.capacity,
                    "joining": list(shard.joining),
                    "leaving": list(shard.leaving),
                }
                for shard in self.source_policy
            ],
            "summary": {kind: self.counts[kind] for kind in Kind},
        }


def plan(stage: Stage, function: str, request: Mapping[str, Any]) -> Plan:
    """Ask a function what it would do, page by page; nothing is written."""
    pages = list(_pages(stage, function, {**request, "dry_run": True}))
    told = [account for page in pages for account in page["accounts"]]
    shards = read_shards(pages[0]["source_policy"])
    if len(pages) > 1:
        # Each page places its own accounts alone, in the same free room; together they may need another shard.
        shards = placed_together(stage, [shard for page in pages for shard in read_shards(page["source_policy"])])
    names = _names(stage, [AccountId(each["account_id"]) for each in told], listing=request["accounts"] == "all")
    return read_plan(told, shards, names)


def read_plan(
    told: Iterable[Mapping[str, Any]], shards: Iterable[PlannedShard], names: Mapping[AccountId, str | None]
) -> Plan:
    """Read the accounts of dry runs' answers."""
    source_policy = tuple(shards)
    joining = {account_id for shard in source_policy for account_id in shard.joining}
    leaving = {account_id for shard in source_policy for account_id in shard.leaving}
    accounts = [
        PlannedAccount(
            account_id=AccountId(each["account_id"]),
            name=names.get(AccountId(each["account_id"])),
            outcome=Outcome(each["outcome"]),
            change=Change(each["change"]),
            reason=Reason(each["reason"]) if each["reason"] else None,
            error=each["error"],
            actions=tuple(each["actions"]),
            joins=each["account_id"] in joining,
            leaves=each["account_id"] in leaving,
        )
        for each in told
    ]
    return Plan(accounts=tuple(sorted(accounts, key=lambda account: account.account_id)), source_policy=source_policy)


def read_shards(told: Iterable[Mapping[str, Any]]) -> list[PlannedShard]:
    """Read the source policy of a dry run's answer."""
    return [
        PlannedShard(
            policy_name=each["policy_name"],
            accounts=each["accounts"],
            capacity=each["capacity"],
            joining=tuple(map(AccountId, each["joining"])),
            leaving=tuple(map(AccountId, each["leaving"])),
        )
        for each in told
    ]


def placed_together(stage: Stage, pages: Iterable[PlannedShard]) -> list[PlannedShard]:
    """Place the accounts of several answers as the workers would."""
    told = list(pages)
    standing = stage.shards()
    before = {shard.name: shard.accounts for shard in standing.shards}
    moves = Moves(
        join=frozenset(each for shard in told for each in shard.joining),
        leave=frozenset(each for shard in told for each in shard.leaving),
    )
    return [
        PlannedShard(
            policy_name=shard.name,
            accounts=len(shard.accounts),
            capacity=capacity(stage.settings),
            joining=tuple(sorted(shard.accounts - before.get(shard.name, frozenset()))),
            leaving=tuple(sorted(before.get(shard.name, frozenset()) - shard.accounts)),
        )
        for shard in place(standing.shards, moves, standing.in_force(stage.settings))
    ]


def _pages(stage: Stage, function: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    following: dict[str, Any] | None = request
    while following is not None:
        # Whatever an answer names as next: what is asked for here writes nothing.
        answer = stage.invoke(function, {**following, "dry_run": True})
        yield answer
        following = answer["next"]


def _names(stage: Stage, account_ids: list[AccountId], *, listing: bool) -> dict[AccountId, str | None]:
    """Tell the accounts' names, by Organizations or, of those that left it, by the ledger."""
    if listing:
        return {row.account_id: row.name for row in stage.rows()} | {each.id: each.name for each in stage.accounts()}
    names = {account_id: row.name for account_id, row in stage.rows_of(account_ids).items()}
    unknown = [account_id for account_id in account_ids if not names.get(account_id)]
    return names | {each.id: each.name for each in map(stage.account, unknown) if each is not None}
