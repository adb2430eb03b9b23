"""The source policy: which accounts each shard grants, its document, and the plan that makes IAM follow.

A shard is one managed policy. The ledger's rows define which accounts are granted; the records in the source-policy table
contain what was last written to IAM of each shard.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias

from chalicelib.accounts import Access
from chalicelib.arns import AccountId, is_account_id, role_arn
from chalicelib.documents import Document
from chalicelib.errors import AccountError, Reason, RetryableError, SettingsError, TerminalError
from chalicelib.member_role import ASSUME_ACTIONS
from chalicelib.settings import Scope, Settings

POLICY_LIMIT = 6144
"""Characters of a managed policy, not adjustable ("IAM and AWS STS quotas")."""

MAX_SHARDS = 25
"""No principal has more policies attached ("IAM and AWS STS quotas")."""

# IAM refuses an empty list, and no account has this id.
_NO_ACCOUNT = AccountId("000000000000")
_LONGEST_ORGANIZATION_ID = "o-" + 32 * "x"  # Organization in the "AWS Organizations API Reference"


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
    `denied_principals` are those that a read of IAM showed attached while the shard denied everything; None before such a read.
    """

    name: str
    applied: AppliedShard | None = None
    unfinished: tuple[AppliedShard, ...] = ()
    applying: AppliedShard | None = None
    error: Problem | None = None
    written_at: datetime | None = None
    verified_at: datetime | None = None
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
    """What operators and schedules requested; `frozen` is None for "as last applied".

    `check_requested_at` is when the latest resync requested a check of the shards, `verify_requested_at` when the latest full one
    did. `scope_recorded` is the scope for which the latest resync found a row of every account.
    """

    frozen: bool | None = None
    uninstalling: bool = False
    uninstalled: bool = False
    verify_requested_at: datetime | None = None
    check_requested_at: datetime | None = None
    scope_recorded: Scope | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """The names that the first run of publish pins until everything is uninstalled."""

    member_role_name: str
    source_policy_name: str
    source_account_id: str

    def why_changed(self, settings: Settings) -> str | None:
        """Return which setting differs from the recorded name and what to do, or None."""
        for name, recorded, value in (
            ("MEMBER_ROLE_NAME", self.member_role_name, settings.member_role_name),
            ("SOURCE_POLICY_NAME", self.source_policy_name, settings.source_policy_name),
            ("SOURCE_PRINCIPAL_ARNS' account", self.source_account_id, settings.source_account_id),
        ):
            if recorded != value:
                return (
                    f"{name} is {value}, and was {recorded} when accounts were enrolled: set it back, or uninstall first "
                    '(retire with {"accounts": "all", "force": true}), or deploy a second stage beside this one'
                )
        return None

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """Return the names in the settings."""
        return cls(
            member_role_name=settings.member_role_name,
            source_policy_name=settings.source_policy_name,
            source_account_id=settings.source_account_id,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What publish found of the source policy as a whole.

    `shards` counts those that were ever opened, and `room` how many each source principal has room for. `principals` is why
    the policy can't be attached to source principals; `looked_at` is when both were read. `blocked` is why a new account would
    find no shard, and `scope` why the scope in the settings is not in force. `repairs` are those of the last check.
    """

    names: Names
    organization_id: str
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

    def blocking_error(
        self, account_id: AccountId, access: Access | None, settings: Settings, *, requested_at: datetime | None
    ) -> AccountError | None:
        """Return why an account can't be enrolled now, or None if it can.

        Changed names block every account, a blocked source policy new ones. The cause may be gone since publish looked: an
        account whose message is later is retried until publish has looked again.
        """
        changed = self.status.names.why_changed(settings) if self.status else None
        if changed is not None:
            return TerminalError(Reason.NAMES_CHANGED, changed)
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
        """Whether a read of IAM showed that every principal which a shard is attached to is denied everything."""
        denied = self.denied_principals
        unread = [record for record in self.by_index.values() if record.versions and record.denied_principals is None]
        # Where the operator attaches, it is not known what an unread shard is attached to.
        known = bool(settings.attachable_principals) or not unread
        return bool(denied) and known and not self.are_lost and all(record.attached <= denied for record in unread)

    @property
    def denied_principals(self) -> frozenset[str]:
        """The principals that a read of IAM showed to be denied everything."""
        read = (record.denied_principals or frozenset() for record in self.by_index.values())
        return frozenset[str]().union(*read)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePolicy:
    """A shard in IAM, desired or observed; a document that is None is not known.

    `tagged` is whether it carries the ownership tags, and `strays` are versions newer than the default one, which publish
    never creates. `version_id` is the observed default version.
    """

    name: str
    document: Document | None
    attached: frozenset[str]
    tagged: bool = True
    strays: tuple[str, ...] = ()
    version_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Create the managed policy with its first version and the ownership tags."""

    document: Document


@dataclass(frozen=True, slots=True)
class WriteVersion:
    """Write a new default version."""

    document: Document


@dataclass(frozen=True, slots=True)
class TagPolicy:
    """Put the ownership tags back."""


@dataclass(frozen=True, slots=True)
class DeleteVersion:
    """Delete a version that publish did not create."""

    version_id: str


@dataclass(frozen=True, slots=True)
class AttachTo:
    """Attach the policy to a source principal."""

    principal_arn: str


@dataclass(frozen=True, slots=True)
class DetachFrom:
    """Detach the policy from a former source principal."""

    principal_arn: str


Action: TypeAlias = CreatePolicy | WriteVersion | TagPolicy | DeleteVersion | AttachTo | DetachFrom


def shard_name(settings: Settings, index: int) -> str:
    """Return a shard's policy name: the source policy's own for the first, then -2, -3, …."""
    return settings.source_policy_name if index == 0 else f"{settings.source_policy_name}-{index + 1}"


def capacity(settings: Settings) -> int:
    """Return how many account ids fit one shard, with room kept for the freeze."""
    return _ids_that_fit(settings, ShardContent(accounts=frozenset({_NO_ACCOUNT}), frozen=True))


def _ids_that_fit(settings: Settings, one: ShardContent) -> int:
    each = len(f'"{_NO_ACCOUNT}",')
    return (POLICY_LIMIT - document(settings, one, _LONGEST_ORGANIZATION_ID).size) // each + 1


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


def exclusion_capacity(settings: Settings) -> int:
    """Return how many accounts the organization's statement can exclude, with room kept for the freeze."""
    one = ShardContent(excluded=frozenset({_NO_ACCOUNT}), scope=Scope.ORGANIZATION, frozen=True)
    return _ids_that_fit(settings, one)


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


def document(settings: Settings, content: ShardContent, organization_id: str) -> Document:
    """Build a shard's policy document.

    `aws:ResourceOrgID` keeps every grant inside the organization, whatever account ids the ledger holds.
    """
    condition: dict[str, Any] = {"StringEquals": {"aws:ResourceOrgID": organization_id}}
    if content.scope is Scope.ACCOUNTS:
        condition["StringEquals"]["aws:ResourceAccount"] = sorted(content.accounts) or [_NO_ACCOUNT]
    elif content.excluded:
        condition["StringNotEquals"] = {"aws:ResourceAccount": sorted(content.excluded)}
    member_roles = role_arn(settings.partition, "*", settings.member_role_name)
    allow = {"Effect": "Allow", "Action": list(ASSUME_ACTIONS), "Resource": member_roles, "Condition": condition}
    deny = {"Sid": "Frozen", "Effect": "Deny", "Action": ASSUME_ACTIONS[0], "Resource": member_roles}
    statements = [allow, deny] if content.frozen else [allow]
    return Document.of({"Version": "2012-10-17", "Statement": statements})


def parse(text: Document, settings: Settings, organization_id: str) -> ShardContent | None:
    """Parse a shard's document, or return None for one that `document` would not have built."""
    try:
        allow, *rest = text.content["Statement"]
        equals, unequal = allow["Condition"]["StringEquals"], allow["Condition"].get("StringNotEquals", {})
        named, excluded = equals.get("aws:ResourceAccount"), unequal.get("aws:ResourceAccount", [])
        content = ShardContent(
            accounts=_account_ids(named or []) - {_NO_ACCOUNT},
            excluded=_account_ids(excluded),
            scope=Scope.ORGANIZATION if named is None else Scope.ACCOUNTS,
            frozen=bool(rest),
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return content if document(settings, content, organization_id) == text else None


def _account_ids(values: object) -> frozenset[AccountId]:
    listed = values if isinstance(values, list) else [values]
    if not all(map(is_account_id, listed)):
        message = "not a list of account ids"
        raise ValueError(message)
    return frozenset(map(AccountId, listed))


def digest(settings: Settings, content: ShardContent, organization_id: str) -> str:
    """Return a digest of a shard's document without the account ids, by which changed settings are found."""
    bare = ShardContent(scope=content.scope)
    return hashlib.sha256(document(settings, bare, organization_id).text.encode()).hexdigest()[:16]


def desired_shard(
    settings: Settings, content: ShardContent, organization_id: str, record: ShardRecord | None
) -> AppliedShard:
    """Return what a shard should be in IAM; attachments that an operator makes are left as they are."""
    principals = frozenset(principal.arn for principal in settings.attachable_principals)
    attached = principals if settings.attach_source_policy or record is None else record.attached
    return AppliedShard(content=content, digest=digest(settings, content, organization_id), attached=attached)


def desired_policy(settings: Settings, name: str, desired: AppliedShard, organization_id: str) -> SourcePolicy:
    """Return the desired shard as IAM would show it."""
    text = document(settings, desired.content, organization_id)
    return SourcePolicy(name=name, document=text, attached=desired.attached)


def last_applied_policy(
    settings: Settings, record: ShardRecord, desired: AppliedShard, organization_id: str
) -> SourcePolicy | None:
    """Return what IAM was last known to contain of a shard, without reading IAM, whose reads are eventually consistent.

    Return None if the shard was never written completely. The document is None where it is not known: while a write is
    unfinished, and after a change of settings. An attachment that is not known counts as there only if it isn't desired.
    """
    applied = record.applied
    if applied is None:
        return None
    is_current = record.applying is None and applied.digest == digest(settings, applied.content, organization_id)
    surely = frozenset.intersection(*(each.attached for each in record.versions))
    return SourcePolicy(
        name=record.name,
        document=document(settings, applied.content, organization_id) if is_current else None,
        attached=surely | (record.attached - desired.attached),
    )


def plan(observed: SourcePolicy | None, desired: SourcePolicy) -> tuple[Action, ...]:
    """Return the actions that make the observed shard the desired one."""
    return tuple(_differences(observed, desired))


def _differences(observed: SourcePolicy | None, desired: SourcePolicy) -> Iterator[Action]:
    attached: frozenset[str] = frozenset() if observed is None else observed.attached
    if desired.document is None:
        message = "a desired policy has a document"
        raise ValueError(message)
    if observed is None:
        yield CreatePolicy(desired.document)
    else:
        if not observed.tagged:
            yield TagPolicy()
        yield from map(DeleteVersion, observed.strays)
        if observed.document != desired.document:
            yield WriteVersion(desired.document)
    # Attach first: if a principal doesn't exist, the former ones keep their access.
    yield from (AttachTo(arn) for arn in sorted(desired.attached - attached))
    yield from (DetachFrom(arn) for arn in sorted(attached - desired.attached))


def check_sizes(settings: Settings) -> None:
    """Raise SettingsError if the settings leave a shard no room for an account, or for the excluded accounts."""
    if len(settings.exclude_account_ids) > exclusion_capacity(settings):
        message = f"EXCLUDE_ACCOUNT_IDS holds {len(settings.exclude_account_ids)} accounts: too many for one policy in scope organization"
        raise SettingsError(message)
