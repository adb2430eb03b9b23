"""What is recorded of the source policy: what was requested, what publish found, and what was last written of each shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property

from chalicelib.accounts import ROLE_KEPT, Access
from chalicelib.arns import AccountId, Principal
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.settings import Scope, Settings

MAX_SHARDS = 25
"""No principal has more policies attached ("IAM and AWS STS quotas")."""

CONSISTENT_AFTER = timedelta(minutes=2)
"""How long after a write IAM's reads are trusted ("Changes that I make are not always immediately visible")."""

_HOW_TO_UNINSTALL = '(retire with {"accounts": "all", "force": true})'


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardContent:
    """What one shard grants; only the first can have scope organization, in which `excluded` counts and `accounts` is empty."""

    accounts: frozenset[AccountId] = frozenset()
    excluded: frozenset[AccountId] = frozenset()
    scope: Scope = Scope.ACCOUNTS
    frozen: bool = False

    def grants(self, account_id: AccountId) -> bool:
        """Whether the source principals may assume the member role in an account of the organization, unless frozen."""
        if self.scope is Scope.ORGANIZATION:
            return account_id not in self.excluded
        return account_id in self.accounts


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedShard:
    """What was written of a shard: its content, a digest of the rest of its document, and the attached principals' ARNs.

    `version_id` is the version that the document became, empty if it is not known.
    """

    content: ShardContent = field(default_factory=ShardContent, metadata={"inline": True})
    digest: str = ""
    attached: frozenset[str] = frozenset()
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something can't be written: the reason, and a message for a person."""

    reason: Reason
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """What publish recorded of one shard.

    `applied` is what IAM was last known to contain, `applying` what is being written (after a failure: either may be true), and
    `unfinished` what earlier writes that did not finish may have written since `applied`.
    `freeze_requested_at` is the request for a freeze for which the deny was last written, and `denied_principals` are those that
    a read of IAM has shown attached while the shard denied everything, since then; None before such a read.
    """

    name: str
    applied: AppliedShard | None = None
    unfinished: tuple[AppliedShard, ...] = ()
    applying: AppliedShard | None = None
    error: Problem | None = None
    written_at: datetime | None = None
    verified_at: datetime | None = None
    freeze_requested_at: datetime | None = None
    denied_principals: frozenset[str] | None = None

    @property
    def versions(self) -> tuple[AppliedShard, ...]:
        """What IAM may contain: one version, or several while a write is unfinished."""
        return tuple(each for each in (self.applied, *self.unfinished, self.applying) if each is not None)

    @property
    def content(self) -> ShardContent:
        """What IAM contains once the unfinished write is finished."""
        return self.versions[-1].content if self.versions else ShardContent()

    @property
    def attached(self) -> frozenset[str]:
        """The principals that the shard may be attached to."""
        return frozenset[str]().union(*(each.attached for each in self.versions))

    @property
    def maybe_named(self) -> frozenset[AccountId]:
        """The accounts that the shard may grant by name."""
        return frozenset[AccountId]().union(*(each.content.accounts for each in self.versions))

    @property
    def is_frozen(self) -> bool:
        """Whether every version that IAM may contain has the freeze's deny."""
        return bool(self.versions) and all(each.content.frozen for each in self.versions)

    def is_consistent(self, now: datetime) -> bool:
        """Whether IAM's reads show what was written: no write is unfinished, and the last one was not a moment ago."""
        if self.applied is None or self.applying is not None:
            return False
        return self.written_at is None or now - self.written_at >= CONSISTENT_AFTER

    def begun(self, applying: AppliedShard) -> "ShardRecord":
        """Return the record of a write that begins; what an unfinished write may have written stays in it."""
        earlier = [*self.unfinished, *([self.applying] if self.applying else [])]
        unfinished = _extremes([each for each in earlier if each != applying])
        return replace(self, unfinished=unfinished, applying=applying)


def _extremes(versions: Sequence[AppliedShard]) -> tuple[AppliedShard, ...]:
    """Return at most two versions a scope, which surely grant, and may grant, what the given versions do."""
    found: list[AppliedShard] = []
    for scope in Scope:
        same = [each for each in versions if each.content.scope is scope]
        if len(same) > 2:  # noqa: PLR2004 - the narrowest and the widest
            accounts, excluded = [each.content.accounts for each in same], [each.content.excluded for each in same]
            frozen, attached = [each.content.frozen for each in same], [each.attached for each in same]
            narrowest = ShardContent(
                accounts=frozenset.intersection(*accounts),
                excluded=frozenset.union(*excluded),
                scope=scope,
                frozen=all(frozen),
            )
            widest = ShardContent(
                accounts=frozenset.union(*accounts),
                excluded=frozenset.intersection(*excluded),
                scope=scope,
                frozen=any(frozen),
            )
            same = [
                AppliedShard(content=narrowest, attached=frozenset.intersection(*attached)),
                AppliedShard(content=widest, attached=frozenset.union(*attached)),
            ]
        found += same
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """What operators and schedules requested; `frozen` is None for "as last applied", and each request has its own time.

    `check_requested_at` is when the latest resync requested a check of the shards, `verify_requested_at` when the latest full one
    did. `scope_recorded` is the scope for which the latest resync found a row of every account. `control_policies_changed_at` is
    when an event about the organization's control policies was last received.
    """

    frozen: bool | None = None
    freeze_requested_at: datetime | None = None
    uninstalling: bool = False
    uninstalled: bool = False
    verify_requested_at: datetime | None = None
    check_requested_at: datetime | None = None
    scope_recorded: Scope | None = None
    control_policies_changed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """The names that are recorded until an uninstall: by publish's first run, in scope none by enroll's first batch.

    The last two are None as long as there is no source policy.
    """

    member_role_name: str
    source_policy_name: str | None = None
    source_account_id: str | None = None

    def why_changed(self, settings: Settings) -> str | None:
        """Return which setting differs from the recorded name and what to do, or None."""
        wanted = Names.of(settings)
        if self.source_account_id is not None and wanted.source_account_id is None:
            return (
                f"SOURCE_POLICY_SCOPE is none, and {self.source_policy_name} is installed in account {self.source_account_id}: "
                f"set it back, or uninstall first {_HOW_TO_UNINSTALL}"
            )
        for name, recorded, value in (
            ("MEMBER_ROLE_NAME", self.member_role_name, wanted.member_role_name),
            ("SOURCE_POLICY_NAME", self.source_policy_name, wanted.source_policy_name),
            ("SOURCE_PRINCIPAL_ARNS' account", self.source_account_id, wanted.source_account_id),
        ):
            if recorded not in {None, value}:
                return (
                    f"{name} is {value}, and was {recorded} when accounts were enrolled: set it back, or uninstall first "
                    f"{_HOW_TO_UNINSTALL}, or deploy a second stage beside this one"
                )
        return None

    def installed(self, settings: Settings) -> Settings:
        """Return the settings with the recorded names, under which everything is installed."""
        return replace(
            settings,
            member_role_name=self.member_role_name,
            source_policy_name=self.source_policy_name or settings.source_policy_name,
        )

    def completed(self, settings: Settings) -> "Names":
        """Return these names, with those in the settings where none is recorded."""
        wanted = Names.of(settings)
        return replace(
            self,
            source_policy_name=self.source_policy_name or wanted.source_policy_name,
            source_account_id=self.source_account_id or wanted.source_account_id,
        )

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """Return the names in the settings."""
        if not settings.keeps_source_policy:
            return cls(member_role_name=settings.member_role_name)
        return cls(
            member_role_name=settings.member_role_name,
            source_policy_name=settings.source_policy_name,
            source_account_id=settings.source_account_id,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What publish found of the source policy as a whole.

    `shards` counts those that were ever opened, and `room` how many each source principal has room for. `principals` is
    why the policy can't be attached to source principals; `looked_at` is when both were read. `blocked` is why a new
    account would find no shard, and `scope` why the scope in the settings is not in force. `repairs` are those of the
    last check. In scope none, enroll writes the names, and all else keeps its default.
    """

    names: Names
    organization_id: str = ""
    shards: int = 0
    room: int = 0
    principals: Problem | None = None
    looked_at: datetime | None = None
    blocked: Problem | None = None
    scope: Problem | None = None
    verified_at: datetime | None = None
    checked_at: datetime | None = None
    repairs: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Records:
    """The source-policy table: what was requested, what publish found, and the shards by their index.

    `status` is None before the first run of publish, and where it was lost. `unreadable` are items that count as lost, since
    they can't be read, and why not.
    """

    control: Control = field(default_factory=Control)
    status: Status | None = None
    by_index: Mapping[int, ShardRecord] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def shards(self) -> tuple[ShardRecord, ...]:
        """The recorded shards in their order."""
        return tuple(self.by_index[index] for index in sorted(self.by_index))

    @property
    def are_lost(self) -> bool:
        """Whether fewer shards are recorded than were ever opened, or whether it is not known how many were."""
        if self.status is None:
            return not self.control.uninstalled
        return self.by_index.keys() != set(range(max(min(self.status.shards, MAX_SHARDS), len(self.by_index))))

    @property
    def scope(self) -> Scope:
        """The scope that the shards are written in."""
        return self.by_index[0].content.scope if 0 in self.by_index else Scope.ACCOUNTS

    @cached_property
    def surely_named(self) -> frozenset[AccountId]:
        """The accounts that a shard grants by name, whether or not its unfinished write has reached IAM."""
        written = (record.versions for record in self.by_index.values() if record.applied is not None)
        return frozenset[AccountId]().union(
            *(frozenset.intersection(*(each.content.accounts for each in versions)) for versions in written)
        )

    @cached_property
    def maybe_named(self) -> frozenset[AccountId]:
        """The accounts that a shard may grant by name."""
        return frozenset[AccountId]().union(*(record.maybe_named for record in self.by_index.values()))

    def grants(self, account_id: AccountId, access: Access | None) -> bool:
        """Whether IAM surely grants an account with this access: by name, or as a member in scope organization."""
        if account_id in self.surely_named:
            return True
        first = self.by_index.get(0)
        # The organization's statement doesn't count for an account that is no member, or whose access is not known.
        if first is None or first.applied is None or access not in {Access.GRANTED, Access.EXCLUDED}:
            return False
        contents = [each.content for each in first.versions]
        # A scope change is unfinished: either content grants it.
        return any(each.scope is Scope.ORGANIZATION for each in contents) and all(
            each.grants(account_id) for each in contents
        )

    def may_grant(self, account_id: AccountId) -> bool:
        """Whether IAM may grant an account of the organization; a shard that was lost, or is foreign, may grant any."""
        unknown = self.are_lost or any(record.error and not record.versions for record in self.by_index.values())
        if unknown or account_id in self.maybe_named:
            return True
        first = self.by_index.get(0)
        return first is not None and any(
            each.content.scope is Scope.ORGANIZATION and each.content.grants(account_id) for each in first.versions
        )

    def in_force(self, account_id: AccountId, access: Access | None) -> bool:
        """Whether access counts as in force: surely granted, or, where it is to be revoked, not surely revoked."""
        if access in {Access.EXCLUDED, Access.NONE}:
            return self.differs(account_id, access)
        return self.grants(account_id, access)

    def differs(self, account_id: AccountId, access: Access | None) -> bool:
        """Whether publish has something to do for an account of this access."""
        if access is Access.GRANTED:
            return not self.grants(account_id, access)
        if access is Access.EXCLUDED:
            return self.may_grant(account_id)
        return access is Access.NONE and (self.are_lost or account_id in self.maybe_named)

    def installed(self, settings: Settings) -> Settings:
        """Return the settings with the names under which everything is installed; before the first run, those in the settings."""
        return self.status.names.installed(settings) if self.status else settings

    def keeping_error(self, account_id: AccountId, access: Access | None, settings: Settings) -> AccountError | None:
        """Return why the role of a retired account can't be deleted yet, or None if it can: IAM may still grant the account."""
        if not settings.keeps_source_policy:
            return self.stuck_error(settings)
        if access in {Access.EXCLUDED, Access.NONE} and not self.may_grant(account_id):
            return None
        return self.stuck_error(settings) or RetryableError(Reason.SOURCE_POLICY_PENDING, ROLE_KEPT)

    def why_renamed(self, settings: Settings) -> str | None:
        """Return which setting differs from the names under which everything is installed and what to do, or None."""
        if self.status is not None:
            return self.status.names.why_changed(settings)
        if self.by_index and not settings.keeps_source_policy:
            return "SOURCE_POLICY_SCOPE is none, and the table has records of a source policy: set it back until they are restored"
        return None

    def stuck_error(self, settings: Settings) -> AccountError | None:
        """Return why nothing can be revoked, or None if it can: publish has no permission in a former source account.

        In scope none there is no publish at all, which matters where a source policy was left.
        """
        recorded = self.status.names.source_account_id if self.status else None
        is_left = self.status is None and self.by_index and not settings.keeps_source_policy
        if not is_left and recorded in {None, Names.of(settings).source_account_id}:
            return None
        return TerminalError(Reason.NAMES_CHANGED, str(self.why_renamed(settings)))

    def blocking_error(
        self, account_id: AccountId, access: Access | None, settings: Settings, *, requested_at: datetime | None
    ) -> AccountError | None:
        """Return why an account can't be enrolled now, or None if it can.

        Changed names block every account, a blocked source policy new ones. The cause may be gone since publish looked: an
        account whose message is later is retried until publish has looked again.
        """
        changed = self.why_renamed(settings)
        if changed is not None:
            return TerminalError(Reason.NAMES_CHANGED, changed)
        if not settings.keeps_source_policy:
            return None
        if access is Access.GRANTED or self.grants(account_id, access):
            return None
        if self.status is None or self.status.looked_at is None:
            return RetryableError(
                Reason.SOURCE_POLICY_PENDING, "publish has not checked the source policy yet: a run is requested"
            )
        blocked, looked_at = self.status.blocked, self.status.looked_at
        if blocked is None:
            return None
        if requested_at is not None and looked_at < requested_at:
            message = f"the source policy was blocked, and is checked again: {blocked.error}"
            return RetryableError(Reason.SOURCE_POLICY_PENDING, message)
        return TerminalError(blocked.reason, blocked.error)

    def freeze_in_force(self, settings: Settings) -> bool:
        """Whether reads of IAM since the freeze was requested have shown that every source principal is denied everything."""
        return bool(self._denied_principals) and not self.are_lost and not self.not_denied(settings)

    def not_denied(self, settings: Settings) -> frozenset[str]:
        """Return the principals that IAM has not shown to be denied, and the shards that the operator attaches and don't deny."""
        unread = [record for record in self.by_index.values() if self._denied(record) is None]
        if not settings.attachable_principals:
            # It is not known what such a shard, or a foreign policy of its name, is attached to.
            shards = frozenset(record.name for record in unread if record.versions or record.error)
            return shards | {each.arn for each in settings.source_principals if not self._is_denied(each)}
        principals = frozenset(principal.arn for principal in settings.attachable_principals)
        return principals.union(*(record.attached for record in unread)) - self._denied_principals

    def _is_denied(self, principal: Principal) -> bool:
        """Whether a shard that the operator attaches denies a principal; a user may be in any group, and `root` is not known.

        IAM lists the names of what has a policy, without their paths.
        """
        for arn in self._denied_principals:
            kind, _, path = arn.rpartition(":")[2].partition("/")
            is_same = kind == principal.kind and fnmatchcase(path.rpartition("/")[2], principal.name)
            if is_same or (kind == "group" and principal.kind == "user"):
                return True
        return principal.kind == "root"

    @property
    def _denied_principals(self) -> frozenset[str]:
        return frozenset[str]().union(*(self._denied(record) or () for record in self.by_index.values()))

    def _denied(self, record: ShardRecord) -> frozenset[str] | None:
        """Return the principals that IAM has shown a shard to deny since the freeze was requested, or None before a read."""
        # A request without its time was lost.
        is_latest = self.control.freeze_requested_at in {None, record.freeze_requested_at}
        return record.denied_principals if is_latest else None


def shard_name(source_policy_name: str, index: int) -> str:
    """Return a shard's policy name: the source policy's own for the first, then -2, -3, …."""
    return source_policy_name if index == 0 else f"{source_policy_name}-{index + 1}"
