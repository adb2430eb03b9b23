"""The world that the simulated workers share, kept in memory, and the rules that it sees kept at every change.

The adapters that reach it are in adapters.py; here is what DynamoDB, IAM and the organization hold.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from random import Random

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.shards import Snapshot
from chalicelib.documents import Document
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import POLICY_LIMIT, Shard, capacity, desired_policy, document

ORGANIZATION_ID = "o-simulation"
NOBODY = "000000000000"
VERSIONS = 5  # that IAM keeps of a policy


class Truth(StrEnum):
    """What an account really is; stands in `Account.state`."""

    ELIGIBLE = "ACTIVE"
    EXCLUDED = "EXCLUDED"
    DEPARTED = "DEPARTED"


class RuleBrokenError(BaseException):
    """A rule that must always hold doesn't; no Exception, so that the application's own handlers let it pass."""


@cache
def settings_for(scope: Scope, accounts_a_shard: int) -> Settings:
    """Make settings under which a shard holds very few accounts, by a member role's name that fills the document."""
    settings = Settings.from_env(
        {
            "STAGE": "simulation",
            "PARTITION": "aws",
            "MANAGEMENT_ACCOUNT_ID": "999999999999",
            "SOURCE_PRINCIPAL_ARNS": "arn:aws:iam::999999999999:role/Reader",
            "SOURCE_POLICY_NAME": "Policy",
            "SOURCE_POLICY_SCOPE": scope,
        }
    )
    if scope is Scope.ACCOUNTS:
        spare = 15 * (capacity(settings) - accounts_a_shard)  # characters; the name stands in two statements
        settings = replace(settings, member_role_name=settings.member_role_name + spare // 2 * "R")
    return settings


@dataclass
class Policy:
    """A managed policy in IAM, with every document that was ever its default."""

    documents: list[Document]
    attached: set[str] = field(default_factory=set)
    versions: int = 1
    old: bool = False  # from before this deployment: every read has it

    @property
    def default(self) -> Document:
        return self.documents[-1]


@dataclass
class World:
    """The tables, IAM in the source account and the organization, at one virtual time."""

    settings: Settings
    random: Random
    accounts_a_shard: int
    now: float = 1_800_000_000.0
    step: int = 0
    truth: dict[AccountId, Truth] = field(default_factory=dict)
    rows: dict[AccountId, LedgerRow] = field(default_factory=dict)
    placement: int = 0
    items: dict[str, Shard] = field(default_factory=dict)
    holder: str | None = None
    until: int = 0
    policies: dict[str, Policy] = field(default_factory=dict)
    placed_at: dict[AccountId, int] = field(default_factory=dict)
    removed_at: dict[AccountId, int] = field(default_factory=dict)
    behind_since: dict[str, int] = field(default_factory=dict)
    versions: dict[tuple[str, int], tuple[int, Shard]] = field(default_factory=dict)
    marked_at: dict[str, int] = field(default_factory=dict)  # by holder
    unsure: set[AccountId] = field(default_factory=set)
    """Accounts that a worker may have placed by an older truth with no message left to tell it so; a resync looks again.

    It had its message twice, and the other copy is finished; or they were taken for never ours, which leaves no row.
    """
    broken: str | None = None

    def require(self, rule: str, kept: bool) -> None:
        if not kept:
            self.broken = rule
            raise RuleBrokenError(rule)

    # The table of shards.

    def place(self, seen: Snapshot, changed: list[Shard]) -> bool:
        if self.placement != seen.placement:
            return False
        self.store(changed)
        return True

    def store(self, changed: list[Shard]) -> None:
        before = self.named_by_items()
        self.placement += 1
        for shard in changed:
            old = self.items.get(shard.name, Shard(name=shard.name))
            # A placement's expression leaves what was written alone.
            self.items[shard.name] = replace(shard, written=old.written, form=old.form, attached=old.attached)
            self.versions[shard.name, shard.version] = (self.step, shard)
            if shard.version > old.version == old.written:
                self.behind_since[shard.name] = self.step
        after = self.named_by_items()
        self.placed_at |= dict.fromkeys(after - before, self.step)
        self.removed_at |= dict.fromkeys(before - after, self.step)
        named = [account_id for shard in self.items.values() for account_id in shard.accounts]
        self.require("no account is in two shards", len(named) == len(set(named)))
        if self.settings.source_policy_scope is Scope.ACCOUNTS:
            over = any(len(shard.accounts) > self.accounts_a_shard for shard in self.items.values())
            self.require("no shard is over its capacity", not over)

    def mark(self, owner: str, shard: Shard) -> None:
        self.items[shard.name] = replace(
            self.items[shard.name], written=shard.written, form=shard.form, attached=shard.attached
        )
        self.marked_at[owner] = self.step
        if shard.written < self.items[shard.name].version:
            self.behind_since[shard.name] = self.versions[shard.name, shard.written + 1][0]
        _, placed = self.versions[shard.name, shard.written]
        said = document(self.settings, placed, ORGANIZATION_ID)
        self.require("what is marked as written is what IAM says", self.policies[shard.name].default == said)

    def take_pen(self, owner: str, *, now: int, until: int) -> bool:
        if self.holder not in {None, owner} and self.until >= now:
            return False
        self.holder, self.until = owner, until
        return True

    def let_go(self, owner: str) -> None:
        if self.holder == owner:
            self.holder = None

    def check_nothing_left_behind(self, owner: str) -> None:
        """What was placed before the last mark was there to be seen by the look that must follow it."""
        marked = self.marked_at.get(owner, 0)
        for shard in self.items.values():
            seen = shard.written < shard.version and self.behind_since[shard.name] < marked
            self.require("no shard is left behind that was placed before its holder's last write", not seen)

    # The ledger.

    def write_row(self, row: LedgerRow, over: LedgerRow | None) -> bool:
        held = self.rows.get(row.account_id)
        if (held and held.updated_at) != (over and over.updated_at):
            return False
        self.rows[row.account_id] = row
        return True

    # IAM.

    def check_lease(self, owner: str) -> None:
        self.require("no one writes to IAM without the lease", self.holder == owner and self.until >= self.now)

    def create_policy(self, owner: str, name: str, said: Document) -> bool:
        self.check_lease(owner)
        if name in self.policies:
            return False
        self.require("no document is over the quota", said.size <= POLICY_LIMIT)
        self.policies[name] = Policy([said])
        return True

    def create_version(self, owner: str, name: str, said: Document) -> bool:
        self.check_lease(owner)
        self.require("no document is over the quota", said.size <= POLICY_LIMIT)
        policy = self.policies[name]
        if policy.versions == VERSIONS:
            return False
        policy.versions += 1
        policy.documents.append(said)
        return True

    def delete_version(self, owner: str, name: str) -> None:
        self.check_lease(owner)
        self.policies[name].versions = min(self.policies[name].versions, VERSIONS - 1)

    def attach(self, owner: str, name: str, principal_arn: str) -> None:
        self.check_lease(owner)
        self.policies[name].attached.add(principal_arn)

    # Which accounts the source policy lets one in to.

    def named_by_items(self) -> set[AccountId]:
        if self.settings.source_policy_scope is Scope.ACCOUNTS:
            return {account_id for shard in self.items.values() for account_id in shard.accounts}
        first = next(iter(self.items.values()), None)
        return set(self.truth) - first.excluded if first else set()

    def named_by_iam(self) -> set[AccountId]:
        named: set[AccountId] = set()
        for policy in self.policies.values():
            condition = policy.default.content["Statement"][0]["Condition"]
            if self.settings.source_policy_scope is Scope.ACCOUNTS:
                named.update(condition["StringEquals"]["aws:ResourceAccount"])
            else:
                named |= set(self.truth) - set(condition.get("StringNotEquals", {}).get("aws:ResourceAccount", ()))
        return named - {AccountId(NOBODY)}

    def check_finished(self, account_id: AccountId, truth: Truth, since: int) -> None:
        """An account's message may go once IAM says what was placed for it, or somebody else placed it otherwise since."""
        if account_id in self.named_by_iam():
            excused = self.may_be_named(truth) or self.placed_at.get(account_id, 0) > since
        else:
            excused = self.need_not_be_named(truth) or self.removed_at.get(account_id, 0) > since
        self.require("a message is finished only when its shard is written", excused)

    def may_be_named(self, truth: Truth) -> bool:
        # In scope organization who has left needs no mention: the statement is about the organization's accounts.
        by_organization = self.settings.source_policy_scope is Scope.ORGANIZATION
        return truth is Truth.ELIGIBLE or (truth is Truth.DEPARTED and by_organization)

    def need_not_be_named(self, truth: Truth) -> bool:
        return truth is not Truth.ELIGIBLE

    def check_settled(self) -> None:
        """Once every message is finished, IAM, the tables and the truth agree."""
        for name, shard in self.items.items():
            desired = desired_policy(self.settings, shard, ORGANIZATION_ID)
            policy = self.policies.get(name)
            agreed = policy is not None and policy.default == desired.document and policy.attached == desired.attached
            if policy is not None and policy.old and not shard.accounts and shard.written == 0:
                continue  # Taken in empty, and its write failed: nobody's message waits for it, and the next batch writes it.
            self.require(f"IAM says of {name} what its item says", agreed)
        self.require("IAM holds no shard that has no item", set(self.policies) == set(self.items))
        named = self.named_by_iam()
        for account_id, truth in self.truth.items():
            if account_id in self.unsure:
                continue
            kept = self.may_be_named(truth) if account_id in named else self.need_not_be_named(truth)
            self.require(f"{account_id}, which is {truth}, is named exactly when it should be", kept)
            row = self.rows.get(account_id)
            enrolled = row is not None and row.outcome is Outcome.ENROLLED
            self.require(f"the ledger knows how {account_id} stands", enrolled == (truth is Truth.ELIGIBLE))
            if row is not None and enrolled and self.settings.source_policy_scope is Scope.ACCOUNTS:
                shard_named = row.policy_name in self.items and account_id in self.items[row.policy_name].accounts
                self.require(f"the ledger knows the shard that names {account_id}", shard_named)
