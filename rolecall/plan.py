"""A dry run: what would become of each account and of the source policy, as the deployed functions return it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from chalicelib.accounts import REMOVAL_REASONS, Access, Change, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Scope
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import MAX_SHARDS, shard_name
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
    """An account's outcome, what would be done to its role, and whether the source policy would grant it, or no longer."""

    account_id: AccountId
    name: str | None = None
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    actions: tuple[Mapping[str, Any], ...] = ()
    granted: bool = False
    revoked: bool = False

    @property
    def kind(self) -> Kind:
        """What the plan means for the account."""
        if self.outcome is Outcome.FAILED or self.error:
            return Kind.FAILING
        if self.change is not Change.NONE:
            return _OF_CHANGE[self.change]
        if self.revoked:
            return Kind.RETIRE
        if self.granted:
            return Kind.UPDATE  # Its role is right already, and the source policy doesn't grant it yet.
        return Kind.UNCHANGED if self.outcome is Outcome.ENROLLED else Kind.SKIPPED


_OF_CHANGE = {Change.CREATED: Kind.CREATE, Change.UPDATED: Kind.UPDATE, Change.DELETED: Kind.DELETE}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """What a shard of the source policy would grant, and what is in the way."""

    policy_name: str
    accounts: int
    capacity: int
    granted: tuple[AccountId, ...] = ()
    revoked: tuple[AccountId, ...] = ()
    error: str | None = None


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
        """The exit status: 1 if an account would fail, or could not be granted or revoked."""
        return int(
            self.counts[Kind.FAILING] > 0
            or any(shard.error and (shard.granted or shard.revoked) for shard in self.source_policy)
        )

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
                    "granted": list(shard.granted),
                    "revoked": list(shard.revoked),
                    "error": shard.error,
                }
                for shard in self.source_policy
            ],
            "summary": {kind: self.counts[kind] for kind in Kind},
        }


def plan(stage: Stage, function: str, request: Mapping[str, Any]) -> Plan:
    """Invoke a function for a dry run, page by page; nothing is written."""
    pages = list(_pages(stage, function, {**request, "dry_run": True}))
    told = [account for page in pages for account in page["accounts"]]
    shards = read_shards(pages[0]["source_policy"])
    if len(pages) > 1:
        # Each page assigns its own accounts alone, to the same free room; together they may need another shard.
        errors = {shard.policy_name: shard.error for page in pages for shard in read_shards(page["source_policy"])}
        shards = assigned_together(stage, told, errors)
    names = _names(stage, [AccountId(each["account_id"]) for each in told], listing=request["accounts"] == "all")
    return read_plan(told, shards, names)


def read_plan(
    told: Iterable[Mapping[str, Any]], shards: Iterable[PlannedShard], names: Mapping[AccountId, str | None]
) -> Plan:
    """Read the accounts of dry runs' answers."""
    source_policy = tuple(shards)
    granted = {account_id for shard in source_policy for account_id in shard.granted}
    revoked = {account_id for shard in source_policy for account_id in shard.revoked}
    accounts = [
        PlannedAccount(
            account_id=AccountId(each["account_id"]),
            name=names.get(AccountId(each["account_id"])),
            outcome=Outcome(each["outcome"]),
            change=Change(each["change"]),
            reason=Reason(each["reason"]) if each["reason"] else None,
            error=each["error"],
            actions=tuple(each["actions"]),
            granted=each["account_id"] in granted,
            revoked=each["account_id"] in revoked,
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
            granted=tuple(map(AccountId, each["granted"])),
            revoked=tuple(map(AccountId, each["revoked"])),
            error=each["error"],
        )
        for each in told
    ]


def assigned_together(
    stage: Stage, told: Iterable[Mapping[str, Any]], errors: Mapping[str, str | None]
) -> list[PlannedShard]:
    """Assign the accounts of several answers as publish would; `errors` are the shards' by name."""
    settings, records = stage.settings, stage.records()
    changes: dict[Access, set[AccountId]] = {access: set() for access in Access}
    for each in told:
        access = _access_of(each)
        if access is not None:
            changes[access].add(AccountId(each["account_id"]))
    contents = [record.content for record in records.shards]
    scope = records.scope if contents else settings.source_policy_scope
    room = min(records.status.room, MAX_SHARDS) if records.status and records.status.looked_at else MAX_SHARDS
    assignment = assign(contents, changes, settings, scope=scope, max_shards=room)
    shards = []
    for index, content in enumerate(assignment.contents):
        before = contents[index].accounts if index < len(contents) else frozenset[AccountId]()
        name = shard_name(settings, index)
        shards.append(
            PlannedShard(
                policy_name=name,
                accounts=len(content.accounts),
                capacity=capacity(settings),
                granted=tuple(sorted(content.accounts - before)),
                revoked=tuple(sorted(before - content.accounts)) if scope is Scope.ACCOUNTS else (),
                error=errors.get(name),
            )
        )
    if assignment.unassigned and shards:
        shards[-1] = replace(shards[-1], error=f"{len(assignment.unassigned)} accounts find no room")
    return shards


def _access_of(account: Mapping[str, Any]) -> Access | None:
    """Return the access that an account of an answer would have, or None if it stays as it is."""
    if account["outcome"] == Outcome.FAILED:
        return None
    if account["outcome"] == Outcome.ENROLLED:
        return Access.GRANTED
    return Access.EXCLUDED if account["reason"] in {Reason.EXCLUDED, *REMOVAL_REASONS} else Access.NONE


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
