"""A dry run: what would change for each account and in the source policy, as the deployed functions return it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from chalicelib.accounts import EXCLUSION_REASONS, REMOVAL_REASONS, Access, Change, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Scope
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import MAX_SHARDS, shard_name
from rolecall.accounts import accounts_below, require_known
from rolecall.console import counted
from rolecall.exit_status import ExitStatus
from rolecall.stage import Stage


class Kind(StrEnum):
    """What would change for an account, as the summary counts it."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RETIRE = "retire"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILING = "failing"


_KINDS = {Change.CREATED: Kind.CREATE, Change.UPDATED: Kind.UPDATE, Change.DELETED: Kind.DELETE}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedAccount:
    """An account's outcome, the actions on its role, and whether its access would be granted or revoked."""

    account_id: AccountId
    name: str | None = None
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    actions: tuple[Mapping[str, Any], ...] = ()
    granted: bool = False
    revoked: bool = False
    adopts: Mapping[str, Any] | None = None

    @property
    def kind(self) -> Kind:
        """What would change for the account."""
        if self.outcome is Outcome.FAILED or self.error:
            return Kind.FAILING
        if self.change is not Change.NONE:
            return _KINDS[self.change]
        if self.revoked:
            return Kind.RETIRE
        if self.granted:
            return Kind.UPDATE  # Only the source policy would change.
        return Kind.UNCHANGED if self.outcome is Outcome.ENROLLED else Kind.SKIPPED


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """The accounts that a shard would contain, grant and revoke, and the error that prevents it."""

    policy_name: str
    accounts: int
    capacity: int
    granted: tuple[AccountId, ...] = ()
    revoked: tuple[AccountId, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What would change for some accounts, sorted by id, and in the source policy.

    `rollout_waiting` further accounts wait for a later wave of a change of settings.
    """

    accounts: tuple[PlannedAccount, ...]
    source_policy: tuple[PlannedShard, ...]
    rollout_waiting: int = 0

    @property
    def counts(self) -> Counter[Kind]:
        """The number of accounts of each kind."""
        return Counter(account.kind for account in self.accounts)

    @property
    def summary(self) -> str:
        """The counts in one line."""
        counts = self.counts
        parts = [f"{counts[kind]} to {kind}" for kind in (Kind.CREATE, Kind.UPDATE, Kind.DELETE)]
        parts += [f"{counts[Kind.RETIRE]} to retire"] if counts[Kind.RETIRE] else []
        parts += [f"{counts[kind]} {kind}" for kind in (Kind.UNCHANGED, Kind.SKIPPED, Kind.FAILING)]
        parts += [f"{self.rollout_waiting} waiting for the rollout"] if self.rollout_waiting else []
        return f"Plan: {', '.join(parts)}."

    @property
    def exit_status(self) -> ExitStatus:
        """PROBLEM if an account would fail, or could not be granted or revoked access."""
        blocked = any(shard.error and (shard.granted or shard.revoked) for shard in self.source_policy)
        return ExitStatus.PROBLEM if blocked or self.counts[Kind.FAILING] else ExitStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
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
                    "adopts": dict(account.adopts) if account.adopts else None,
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
            "summary": {**{kind: self.counts[kind] for kind in Kind}, "rollout_waiting": self.rollout_waiting},
        }


def fetch_plan(stage: Stage, function: str, request: Mapping[str, Any]) -> Plan:
    """Invoke a function for a dry run until its last page. Nothing is changed.

    Raise CommandError for accounts and organizational units that don't exist: their plan would be empty.
    """
    if request["accounts"] != "all":
        require_known(stage, request["accounts"])
    elif request.get("ous"):
        accounts_below(stage, request["ous"])
    pages = list(_pages(stage, function, request))
    accounts = [account for page in pages for account in page["accounts"]]
    shards = parse_shards(pages[0]["source_policy"])
    if len(pages) > 1:
        # Each page assigns only its own accounts, to the same free room; together they may need another shard.
        errors = {shard.policy_name: shard.error for page in pages for shard in parse_shards(page["source_policy"])}
        shards = assign_together(stage, accounts, errors)
    names = _names(stage, [AccountId(each["account_id"]) for each in accounts], listing=request["accounts"] == "all")
    plan = parse_plan(accounts, shards, names, by_role=not stage.settings.keeps_source_policy)
    return replace(plan, rollout_waiting=pages[0]["counts"].get("rollout_waiting", 0))


def parse_plan(
    accounts: Iterable[Mapping[str, Any]],
    shards: Iterable[PlannedShard],
    names: Mapping[AccountId, str | None],
    *,
    by_role: bool = False,
) -> Plan:
    """Parse the accounts of dry runs' responses; with `by_role`, as in scope none, the role itself grants access."""
    source_policy = tuple(shards)
    granted = {account_id for shard in source_policy for account_id in shard.granted}
    revoked = {account_id for shard in source_policy for account_id in shard.revoked}
    planned = [
        PlannedAccount(
            account_id=AccountId(each["account_id"]),
            name=names.get(AccountId(each["account_id"])),
            outcome=Outcome(each["outcome"]),
            change=Change(each["change"]),
            reason=Reason(each["reason"]) if each["reason"] else None,
            error=each["error"],
            actions=tuple(each["actions"]),
            granted=each["account_id"] in granted or (by_role and each["change"] == Change.CREATED),
            revoked=each["account_id"] in revoked or (by_role and each["change"] == Change.DELETED),
            adopts=each.get("adopts"),
        )
        for each in accounts
    ]
    return Plan(accounts=tuple(sorted(planned, key=lambda account: account.account_id)), source_policy=source_policy)


def parse_shards(shards: Iterable[Mapping[str, Any]]) -> list[PlannedShard]:
    """Parse the source policy of a dry run's response."""
    return [
        PlannedShard(
            policy_name=each["policy_name"],
            accounts=each["accounts"],
            capacity=each["capacity"],
            granted=tuple(map(AccountId, each["granted"])),
            revoked=tuple(map(AccountId, each["revoked"])),
            error=each["error"],
        )
        for each in shards
    ]


def assign_together(
    stage: Stage, accounts: Iterable[Mapping[str, Any]], errors: Mapping[str, str | None]
) -> list[PlannedShard]:
    """Assign the accounts of several responses to shards as publish would; `errors` has each shard's error."""
    records = stage.records()
    settings = records.installed(stage.settings)
    if not settings.keeps_source_policy:
        return []
    changes: dict[Access, set[AccountId]] = {access: set() for access in Access}
    for account in accounts:
        access = _access(account)
        if access is not None:
            changes[access].add(AccountId(account["account_id"]))
    contents = [record.content for record in records.shards]
    scope = records.scope if contents else settings.source_policy_scope
    room = min(records.status.room, MAX_SHARDS) if records.status and records.status.looked_at else MAX_SHARDS
    assignment = assign(contents, changes, settings, scope=scope, max_shards=room)
    shards = []
    for index, content in enumerate(assignment.contents):
        before = contents[index].accounts if index < len(contents) else frozenset[AccountId]()
        name = shard_name(settings.source_policy_name, index)
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
        shards[-1] = replace(shards[-1], error=f"no room for {counted(len(assignment.unassigned), 'account')}")
    return shards


def _access(account: Mapping[str, Any]) -> Access | None:
    """Return the access that an account of a response would have, or None if it stays as it is."""
    if account["outcome"] == Outcome.FAILED:
        return None
    if account["outcome"] == Outcome.ENROLLED:
        return Access.GRANTED
    return Access.EXCLUDED if account["reason"] in EXCLUSION_REASONS | REMOVAL_REASONS else Access.NONE


def _pages(stage: Stage, function: str, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    following: Mapping[str, Any] | None = request
    while following is not None:
        # Set for every page: a response's next request doesn't contain it.
        response = stage.invoke(function, {**following, "dry_run": True})
        yield response
        following = response["next"]


def _names(stage: Stage, account_ids: list[AccountId], *, listing: bool) -> dict[AccountId, str | None]:
    """Map the accounts to their names in Organizations or, for accounts that left it, in the ledger."""
    if listing:
        return {row.account_id: row.name for row in stage.rows()} | {each.id: each.name for each in stage.accounts()}
    names = {account_id: row.name for account_id, row in stage.rows_of(account_ids).items()}
    unknown = [account_id for account_id in account_ids if not names.get(account_id)]
    return names | {each.id: each.name for each in map(stage.account, unknown) if each is not None}
