"""The source policy: which accounts its shards name, what each says, and the plan that makes IAM say so."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from chalicelib.arns import AccountId, is_account_id, policy_arn, role_arn
from chalicelib.documents import Document
from chalicelib.errors import Reason, SettingsError, TerminalError
from chalicelib.member_role import ASSUME_ACTIONS, SESSION_POLICY_LIMIT
from chalicelib.settings import Scope, Settings

POLICY_LIMIT = 6144
"""Characters of a managed policy, not adjustable ("IAM and AWS STS quotas")."""

MOST_SHARDS = 25
"""No principal has more policies attached ("IAM and AWS STS quotas")."""

# Accounts that scope accounts remembers to be left out, should the scope be the organization one day: more than a policy has
# room to leave out, so that such a change is refused.
_MOST_REMEMBERED = 1000

# Stands where no account does: IAM refuses an empty list, and no account has this id.
_NOBODY = "000000000000"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One managed policy's worth of the source policy, as its item in the table holds it.

    `version` counts the changes of what the shard should say, `written` is the version that IAM was last given, and `form` and
    `attached` are the rest of what it was given then: a digest of the document without its accounts, and principals' ARNs.
    `excluded`, on the first shard only, are the accounts that scope organization must leave out.
    """

    name: str
    accounts: frozenset[AccountId] = frozenset()
    excluded: frozenset[AccountId] = frozenset()
    frozen: bool = False
    version: int = 0
    written: int = 0
    form: str = ""
    attached: frozenset[str] = frozenset()


class Move(StrEnum):
    """What a verdict on an account means for the source policy."""

    JOIN = "join"
    LEAVE = "leave"
    EXCLUDE = "exclude"
    STAY = "stay"


@dataclass(frozen=True, slots=True)
class Moves:
    """Accounts that join the source policy, that leave it, and that leave it to be excluded in scope organization too."""

    join: frozenset[AccountId] = frozenset()
    leave: frozenset[AccountId] = frozenset()
    exclude: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePolicy:
    """A shard in IAM, desired or observed; a document that is None is known to be out of date.

    `tagged` tells whether it carries the ownership tags, and `strays` are versions newer than the default one, which only
    somebody else can have made.
    """

    name: str
    document: Document | None
    attached: frozenset[str]
    tagged: bool = True
    strays: tuple[str, ...] = ()


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
    """Put the ownership tags on again."""


@dataclass(frozen=True, slots=True)
class DeleteVersion:
    """Delete a version that somebody else made."""

    version_id: str


@dataclass(frozen=True, slots=True)
class AttachTo:
    """Attach the policy to a source principal."""

    principal_arn: str


@dataclass(frozen=True, slots=True)
class DetachFrom:
    """Detach the policy from what is no source principal any more."""

    principal_arn: str


Action: TypeAlias = CreatePolicy | WriteVersion | TagPolicy | DeleteVersion | AttachTo | DetachFrom


def shard_name(settings: Settings, index: int) -> str:
    """Name a shard: the policy's own name first, then -2, -3, …."""
    return settings.source_policy_name if index == 0 else f"{settings.source_policy_name}-{index + 1}"


def capacity(settings: Settings) -> int:
    """Compute how many account ids fit one shard, with room kept for the freeze."""
    one = Shard(name=settings.source_policy_name, accounts=frozenset({AccountId(_NOBODY)}), frozen=True)
    size = document(replace(settings, source_policy_scope=Scope.ACCOUNTS), one, "").size
    each = len(f'"{_NOBODY}",')
    return (POLICY_LIMIT - size) // each + 1


def shards_of(shards: Iterable[Shard], account_ids: frozenset[AccountId]) -> dict[AccountId, str]:
    """Tell by which shard each of some accounts is named; those that none names are left out."""
    return {account_id: shard.name for shard in shards for account_id in shard.accounts & account_ids}


def place(shards: tuple[Shard, ...], moves: Moves, settings: Settings) -> tuple[Shard, ...]:
    """Say what the shards should name after some moves; an account that stays keeps its shard, and versions count the changes."""
    gone = moves.leave | moves.exclude
    limit = capacity(settings)
    newcomers: list[AccountId] = []
    if settings.source_policy_scope is Scope.ACCOUNTS:
        newcomers = sorted(moves.join - shards_of(shards, moves.join).keys(), reverse=True)
    wanted: list[Shard] = list(shards)
    # In scope organization an exclusion says something even where nothing is enrolled yet.
    if not wanted and (moves.join or (moves.exclude and settings.source_policy_scope is Scope.ORGANIZATION)):
        wanted.append(Shard(name=shard_name(settings, 0)))
    for index, shard in enumerate(wanted):
        room = limit - len(shard.accounts) + len(shard.accounts & gone)
        if room > 0 or not gone.isdisjoint(shard.accounts):
            joined = [newcomers.pop() for _ in range(min(room, len(newcomers)))]
            wanted[index] = replace(shard, accounts=(shard.accounts - gone).union(joined))
    while newcomers:
        joined = [newcomers.pop() for _ in range(min(limit, len(newcomers)))]
        wanted.append(Shard(name=shard_name(settings, len(wanted)), accounts=frozenset(joined)))
    if wanted:
        excluded = (wanted[0].excluded | moves.exclude) - moves.join - moves.leave
        if settings.source_policy_scope is Scope.ACCOUNTS:
            excluded = frozenset(sorted(excluded)[:_MOST_REMEMBERED])
        wanted[0] = replace(wanted[0], excluded=excluded)
    before = {shard.name: shard for shard in shards}
    return tuple(_counted(before.get(shard.name), shard, settings) for shard in wanted)


def place_all_that_fit(
    shards: tuple[Shard, ...], moves: Moves, settings: Settings
) -> tuple[tuple[Shard, ...], TerminalError | None]:
    """Place, and where there are too many to be left out, place the others alone, and tell why these were not."""
    try:
        return place(shards, moves, settings), None
    except TerminalError as error:
        return place(shards, replace(moves, exclude=frozenset()), settings), error


def _counted(before: Shard | None, shard: Shard, settings: Settings) -> Shard:
    same = before is not None and before.accounts == shard.accounts
    if _names_everyone(settings, shard):
        same = before is not None and before.excluded == shard.excluded
        if _overflows(settings, shard):
            message = (
                f"{len(shard.excluded)} accounts are to be left out of the organization, too many for {shard.name}: "
                "exclude fewer, or set SourcePolicyScope=accounts"
            )
            raise TerminalError(Reason.QUOTA, message)
    return shard if same else replace(shard, version=shard.version + 1)


def _overflows(settings: Settings, shard: Shard) -> bool:
    longest_organization_id = "o-" + 32 * "x"
    return document(settings, replace(shard, frozen=True), longest_organization_id).size > POLICY_LIMIT


def document(settings: Settings, shard: Shard, organization_id: str) -> Document:
    """Write what a shard says; `organization_id` counts in scope organization only."""
    statements = [_allow(settings, shard, organization_id)]
    if shard.frozen:
        statements.append(
            {"Sid": "Frozen", "Effect": "Deny", "Action": ASSUME_ACTIONS[0], "Resource": _any_member_role(settings)}
        )
    return Document.of({"Version": "2012-10-17", "Statement": statements})


def _allow(settings: Settings, shard: Shard, organization_id: str) -> dict[str, Any]:
    named: list[str] = [*sorted(shard.accounts)] or [_NOBODY]
    condition: dict[str, Any] = {"StringEquals": {"aws:ResourceAccount": named}}
    if _names_everyone(settings, shard):
        left_out = sorted(shard.excluded | {AccountId(account_id) for account_id in settings.exclude_account_ids})
        condition = {"StringEquals": {"aws:ResourceOrgID": organization_id}}
        if left_out:
            condition["StringNotEquals"] = {"aws:ResourceAccount": left_out}
    return {
        "Effect": "Allow",
        "Action": list(ASSUME_ACTIONS),
        "Resource": _any_member_role(settings),
        "Condition": condition,
    }


def _names_everyone(settings: Settings, shard: Shard) -> bool:
    """Tell whether a shard lets one into the whole organization: in that scope the first does, and the others stay as they are."""
    return settings.source_policy_scope is Scope.ORGANIZATION and shard.name == settings.source_policy_name


def _any_member_role(settings: Settings) -> str:
    return role_arn(settings.partition, "*", settings.member_role_name)


def form(settings: Settings, shard: Shard, organization_id: str) -> str:
    """Digest what a shard's document says besides the ids in its item, so that changed settings show without reading IAM."""
    bare = replace(shard, accounts=frozenset(), excluded=frozenset(), frozen=False)
    return hashlib.sha256(document(settings, bare, organization_id).text.encode()).hexdigest()[:16]


def _is_current(settings: Settings, shard: Shard, organization_id: str) -> bool:
    return shard.written == shard.version and shard.form == form(settings, shard, organization_id)


def is_behind(settings: Settings, shard: Shard, organization_id: str) -> bool:
    """Tell whether the plan from what was last written to what should be holds anything; no document is written out for it."""
    written = shard.written > 0 and _is_current(settings, shard, organization_id)
    return not written or _attached(settings, shard) != shard.attached


def _attached(settings: Settings, shard: Shard) -> frozenset[str]:
    attachable = frozenset(principal.arn for principal in settings.attachable_principals)
    return attachable if settings.attach_source_policy else shard.attached


def desired_policy(settings: Settings, shard: Shard, organization_id: str) -> SourcePolicy:
    """Say what a shard should be in IAM; attachments that an operator makes are left as they are."""
    return SourcePolicy(
        name=shard.name,
        document=document(settings, shard, organization_id),
        attached=_attached(settings, shard),
    )


def believed_policy(settings: Settings, shard: Shard, organization_id: str) -> SourcePolicy | None:
    """Say what a shard is in IAM by what was last written there, without reading IAM, whose reads may be stale."""
    if shard.written == 0:
        return None
    current = _is_current(settings, shard, organization_id)
    return SourcePolicy(
        name=shard.name,
        document=document(settings, shard, organization_id) if current else None,
        attached=shard.attached,
    )


def plan(observed: SourcePolicy | None, desired: SourcePolicy) -> tuple[Action, ...]:
    """List the actions that make a shard in IAM what it should be."""
    return tuple(_differences(observed, desired))


def _differences(observed: SourcePolicy | None, desired: SourcePolicy) -> Iterator[Action]:
    attached: frozenset[str] = frozenset() if observed is None else observed.attached
    if desired.document is None:
        message = "a desired policy says something"
        raise ValueError(message)
    if observed is None:
        yield CreatePolicy(desired.document)
    else:
        if not observed.tagged:
            yield TagPolicy()
        yield from map(DeleteVersion, observed.strays)
        if observed.document != desired.document:
            yield WriteVersion(desired.document)
    # First to whom it should be attached: if one of them doesn't exist, nobody has lost access.
    yield from (AttachTo(arn) for arn in sorted(desired.attached - attached))
    yield from (DetachFrom(arn) for arn in sorted(attached - desired.attached))


def apply(policy: SourcePolicy | None, name: str, actions: Iterable[Action]) -> SourcePolicy | None:
    """Say what a shard in IAM is after some actions; applying the plan gives the desired shard, and that is a law."""
    for action in actions:
        if isinstance(action, CreatePolicy):
            policy = SourcePolicy(name=name, document=action.document, attached=frozenset())
        elif policy is None:
            message = f"{type(action).__name__} needs a policy"
            raise ValueError(message)
        else:
            match action:
                case WriteVersion(document=written):
                    policy = replace(policy, document=written)
                case TagPolicy():
                    policy = replace(policy, tagged=True)
                case DeleteVersion(version_id):
                    policy = replace(policy, strays=tuple(each for each in policy.strays if each != version_id))
                case AttachTo(principal_arn):
                    policy = replace(policy, attached=policy.attached | {principal_arn})
                case DetachFrom(principal_arn):
                    policy = replace(policy, attached=policy.attached - {principal_arn})
    return policy


def is_frozen(existing: Document) -> bool:
    """Tell whether an existing policy carries the freeze's denial."""
    return any(_is_freeze(statement) for statement in _statements(existing))


def _statements(existing: Document) -> list[Any]:
    return _listed(_mapping(existing.content).get("Statement"))


def _is_freeze(statement: Any) -> bool:  # noqa: ANN401 - any JSON may stand in a policy made by hand, here and below
    return _mapping(statement).get("Sid") == "Frozen" and _mapping(statement).get("Effect") == "Deny"


def accounts_named(existing: Document, settings: Settings) -> frozenset[AccountId]:
    """List the accounts that an existing policy lets one assume the member role in; a ValueError says what it says besides."""
    named: set[AccountId] = set()
    for statement in _statements(existing):
        if not _is_freeze(statement):
            named |= _named_by(statement, settings)
    return frozenset(named - {AccountId(_NOBODY)})


def _named_by(told: Any, settings: Settings) -> set[AccountId]:  # noqa: ANN401
    statement = _mapping(told)
    actions = {str(action).lower() for action in _listed(statement.get("Action"))}
    before, after = map(re.escape, _any_member_role(settings).split("*"))
    pattern = re.compile(rf"{before}([0-9]{{12}}|\*){after}")
    matches = [pattern.fullmatch(str(resource)) for resource in _listed(statement.get("Resource"))]
    in_resources = {match[1] for match in matches if match}
    conditions = statement.get("Condition", {})
    pin = _mapping(_mapping(conditions).get("StringEquals")).get("aws:ResourceAccount")
    pinned = _listed(pin)
    only_pins = conditions == ({"StringEquals": {"aws:ResourceAccount": pin}} if pinned else {})
    known = (
        statement.get("Effect") == "Allow"
        and actions <= {action.lower() for action in ASSUME_ACTIONS}
        and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        and all(matches)
        and only_pins
        and all(map(is_account_id, pinned))
    )
    if not known or ("*" in in_resources and not pinned):
        message = "it says more than sts:AssumeRole on the member role in single accounts"
        raise ValueError(message)
    if pinned:
        return {AccountId(each) for each in pinned if "*" in in_resources or each in in_resources}
    return {AccountId(each) for each in in_resources}


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:  # noqa: ANN401
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def looking_document(settings: Settings) -> Document:
    """Write the session policy for a look at a separate source account: at the shards and at the source principals."""
    statements = [_on_shards(settings, "GetPolicy", "GetPolicyVersion", "ListPolicyVersions", "ListEntitiesForPolicy")]
    if settings.attachable_principals:
        kinds = _kinds(settings)
        statements += [
            {"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": [f"iam:ListAttached{kind}Policies" for kind in kinds],
                "Resource": _principal_arns(settings),
            },
        ]
    return _session(*statements)


def session_document(settings: Settings) -> Document:
    """Write the session policy for writing in a separate source account: the shards, and who they are attached to."""
    statements = [
        _on_shards(
            settings,
            *("CreatePolicy", "TagPolicy", "GetPolicy", "ListPolicyVersions", "CreatePolicyVersion"),
            "DeletePolicyVersion",
        )
    ]
    if settings.attachable_principals:
        statements.append(
            {
                "Effect": "Allow",
                "Action": [f"iam:Attach{kind}Policy" for kind in _kinds(settings)],
                "Resource": _principal_arns(settings),
                "Condition": _only_shards(settings),
            }
        )
    return _session(*statements, *_detaching(settings))


def removing_document(settings: Settings) -> Document:
    """Write the session policy for uninstalling: only what takes the shards away from a separate source account."""
    shards = _on_shards(settings, "ListPolicyVersions", "DeletePolicyVersion", "DeletePolicy")
    return _session(shards, *_detaching(settings))


def _session(*statements: dict[str, Any]) -> Document:
    return Document.of({"Version": "2012-10-17", "Statement": list(statements)})


def _on_shards(settings: Settings, *verbs: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [f"iam:{verb}" for verb in verbs], "Resource": _shard_arns(settings)}


def _only_shards(settings: Settings) -> dict[str, Any]:
    return {"ArnLike": {"iam:PolicyARN": _shard_arns(settings)}}


def _detaching(settings: Settings) -> Iterator[dict[str, Any]]:
    """Allow to detach the shards from whatever was a source principal once."""
    if settings.attach_source_policy:
        account = f"arn:{settings.partition}:iam::{settings.source_account_id}"
        yield {
            "Effect": "Allow",
            "Action": ["iam:DetachRolePolicy", "iam:DetachUserPolicy"],
            "Resource": [f"{account}:role/*", f"{account}:user/*"],
            "Condition": _only_shards(settings),
        }


def _shard_arns(settings: Settings) -> list[str]:
    first = policy_arn(settings.partition, settings.source_account_id, settings.source_policy_name)
    return [first, f"{first}-*"]


def _principal_arns(settings: Settings) -> list[str]:
    return [principal.arn for principal in settings.attachable_principals]


def _kinds(settings: Settings) -> list[str]:
    return sorted({principal.kind.title() for principal in settings.attachable_principals})


def check_sizes(settings: Settings) -> None:
    """Refuse settings that leave a shard no room, or whose session policy STS would refuse, with a SettingsError."""
    written = (looking_document(settings), session_document(settings), removing_document(settings))
    session = max(document.size for document in written)
    if settings.source_account_id != settings.management_account_id and session > SESSION_POLICY_LIMIT:
        message = f"the session policy for the source account would take {session} characters, and STS allows {SESSION_POLICY_LIMIT}: name fewer SOURCE_PRINCIPAL_ARNS"
        raise SettingsError(message)
    if _overflows(settings, Shard(name=settings.source_policy_name)):
        message = f"EXCLUDE_ACCOUNT_IDS holds {len(settings.exclude_account_ids)} accounts: too many for one policy in scope organization"
        raise SettingsError(message)
