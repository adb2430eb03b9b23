"""The member role: the desired one, and the plan that changes an observed one into it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeAlias

from chalicelib.arns import Principal, role_arn, root_arn
from chalicelib.data_read_denies import DENY_POLICY_NAME, deny_document
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role_policies import LONGEST_ORGANIZATION_ID, denies_all_of, only_denies
from chalicelib.ownership import OWNERSHIP_TAGS
from chalicelib.settings import Settings, parameters_with_role

ASSUME_ACTIONS = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
"""What source principals need: some pass session tags or a source identity to every role that they assume."""

DIFFERS_BY_CASE = (
    "differs from MemberRoleName by case, which IAM ignores in names of roles and compares in policies: delete it, or set "
    "another MemberRoleName"
)
"""Why such a role can't be used, and the member role can't be created while it exists ("CreateRole", API reference)."""

TRUST_LIMIT = 2048
"""Characters of a trust policy, unless an account's quota was raised ("IAM and AWS STS quotas")."""

INLINE_LIMIT = 10_240
"""Characters of all inline policies of a role together ("IAM and AWS STS quotas"), which can't be raised."""

ANY_ACCOUNT = "000000000000"
"""In the place of an account's id, in what is the same for every account."""

_FINGERPRINT_CHARS = 10
_TAGS_CHARS = 4
_ORGANIZATION_ID = re.compile(r"\bo-[a-z0-9]{10,32}\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberRole:
    """A member role, desired or observed; `attached` are managed policies' ARNs and `inline` are documents by name.

    `last_used_at` is when an observed one was last assumed or used, if that is within the 400 days that IAM records.
    """

    arn: str
    trust: Document
    max_session: int
    boundary: str | None
    tags: Mapping[str, str]
    attached: frozenset[str]
    inline: Mapping[str, Document]
    last_used_at: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CreateRole:
    """Create the role with its trust, tags, session length and boundary, and no policy yet."""

    role: MemberRole


@dataclass(frozen=True, slots=True)
class TagRole:
    """Set the tags."""

    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SetTrust:
    """Replace the trust policy."""

    trust: Document


@dataclass(frozen=True, slots=True)
class SetMaxSession:
    """Set the longest session, in seconds."""

    seconds: int


@dataclass(frozen=True, slots=True)
class SetBoundary:
    """Set the permissions boundary, or remove it."""

    boundary: str | None


@dataclass(frozen=True, slots=True)
class PutInlinePolicy:
    """Write an inline policy."""

    name: str
    document: Document


@dataclass(frozen=True, slots=True)
class DeleteInlinePolicy:
    """Delete an inline policy that should not be there."""

    name: str


@dataclass(frozen=True, slots=True)
class AttachPolicy:
    """Attach a managed policy."""

    arn: str


@dataclass(frozen=True, slots=True)
class DetachPolicy:
    """Detach a managed policy that should not be there."""

    arn: str


@dataclass(frozen=True, slots=True)
class DeleteRole:
    """Delete the role, which has no policies any more."""


Action: TypeAlias = (
    CreateRole
    | TagRole
    | SetTrust
    | SetMaxSession
    | SetBoundary
    | PutInlinePolicy
    | DeleteInlinePolicy
    | AttachPolicy
    | DetachPolicy
    | DeleteRole
)


def desired_role(settings: Settings, account_id: str, organization_id: str = "{organization_id}") -> MemberRole:
    """Return the member role that an account should have; by default, the organization's id stays a placeholder."""
    boundary = settings.permissions_boundary_arn
    return MemberRole(
        arn=role_arn(settings.partition, account_id, settings.member_role_name),
        trust=trust_document(settings),
        max_session=settings.member_role_max_session,
        boundary=_filled(boundary, settings, account_id) if boundary else None,
        tags={**settings.member_role_tags, **settings.ownership_tags},
        attached=frozenset(_filled(arn, settings, account_id) for arn in settings.member_role_policy_arns),
        inline=_inline(settings, account_id, organization_id),
    )


def _inline(settings: Settings, account_id: str, organization_id: str) -> dict[str, Document]:
    denies = {DENY_POLICY_NAME: deny_document(settings.deny_data_reads_except)} if settings.deny_data_reads else {}
    return denies | {
        name: Document(_filled(each.text, settings, account_id).replace("{organization_id}", organization_id))
        for name, each in settings.member_role_policies.items()
    }


def fingerprint(settings: Settings) -> str:
    """Return a digest of the desired role: equal for settings, and releases, that desire the same role in every account.

    Its last characters are of the tags, since an observed role may have further ones.
    """
    role = desired_role(settings, ANY_ACCOUNT)
    return _digest(_permissions(role), _FINGERPRINT_CHARS) + _digest(role.tags, _TAGS_CHARS)


def is_made_for(observed: MemberRole, made_for: str) -> bool:
    """Whether a role still has the trust and the permissions of settings with some fingerprint.

    A fingerprint of another form can't be compared: a release that computes it otherwise changes its length.
    """
    is_comparable = len(made_for) == _FINGERPRINT_CHARS + _TAGS_CHARS
    return not is_comparable or made_for.startswith(_digest(_permissions(observed), _FINGERPRINT_CHARS))


def _permissions(role: MemberRole) -> dict[str, Any]:
    """Return all of a role but its tags, with placeholders for the ids that differ by account and organization."""
    account_id = role.arn.split(":")[4]

    def general(text: str) -> str:
        return _ORGANIZATION_ID.sub("{organization_id}", text.replace(account_id, ANY_ACCOUNT))

    return {
        "arn": general(role.arn),
        "trust": role.trust.canonical,
        "max_session": role.max_session,
        "boundary": general(role.boundary or ""),
        "attached": sorted(map(general, role.attached)),
        "inline": {name: Document(general(document.text)).canonical for name, document in role.inline.items()},
    }


def _digest(content: Mapping[str, Any], chars: int) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:chars]


def plan(observed: MemberRole | None, desired: MemberRole) -> tuple[Action, ...]:
    """Return the actions that change the observed role into the desired one; what restricts it comes before what extends it.

    So a plan that stops half-way never allows more than the desired role. Tags that Rolecall doesn't set are kept, since tag
    policies and cost tools would only add them again.
    """
    if observed is None:
        bare = replace(desired, attached=frozenset(), inline={})
        return (CreateRole(bare), *plan(bare, desired))
    return tuple(_differences(observed, desired))


def _differences(observed: MemberRole, desired: MemberRole) -> Iterator[Action]:
    # All desired tags at once: an SCP may deny a request without the tags that the organization requires.
    is_tagged = desired.tags.items() <= observed.tags.items()
    is_owned = all(observed.tags.get(key) == desired.tags[key] for key in OWNERSHIP_TAGS)
    # Ownership first: the next pass recognizes an adopted role as ours if this one stops after any action.
    if not is_owned:
        yield TagRole(desired.tags)
    for arn in sorted(observed.attached - desired.attached):
        yield DetachPolicy(arn)
    stray, denying, lifted, replacing, new = _inline_changes(observed.inline, desired.inline)
    # Deleted before others are put: all inline policies of a role share one quota of characters.
    yield from map(DeleteInlinePolicy, stray)
    yield from _puts(desired, denying)
    if desired.boundary is not None and observed.boundary != desired.boundary:
        yield SetBoundary(desired.boundary)
    if observed.trust != desired.trust:
        yield SetTrust(desired.trust)
    if observed.max_session != desired.max_session:
        yield SetMaxSession(desired.max_session)
    yield from map(DeleteInlinePolicy, lifted)
    yield from _puts(desired, replacing)
    if desired.boundary is None and observed.boundary is not None:
        yield SetBoundary(None)
    for arn in sorted(desired.attached - observed.attached):
        yield AttachPolicy(arn)
    yield from _puts(desired, new)
    if is_owned and not is_tagged:
        yield TagRole(desired.tags)


def _puts(desired: MemberRole, names: list[str]) -> list[Action]:
    return [PutInlinePolicy(name, desired.inline[name]) for name in names]


def _inline_changes(
    observed: Mapping[str, Document], desired: Mapping[str, Document]
) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Return the names of the inline policies to delete, to put because they deny, to lift, to replace, and to add.

    To lift is to delete what only denied, after all restrictions; what denies less than before is replaced then, too.
    Both come first if the quota needs their room, as does the deletion of documents that are replaced by others.
    """
    stray = sorted(observed.keys() - desired.keys())
    differing = sorted(name for name, document in desired.items() if observed.get(name) != document)
    loosened = [name for name in differing if _is_loosened(name, desired[name], observed)]
    denying = [name for name in differing if only_denies(desired[name]) and name not in loosened]
    allowing = [name for name in differing if not only_denies(desired[name])]
    replacing = [name for name in allowing if name in observed]
    lifted = [name for name in stray if only_denies(observed[name]) and not denying]
    stray = [name for name in stray if name not in lifted]
    most = sum(max(document.size, observed[name].size if name in observed else 0) for name, document in desired.items())
    if most > INLINE_LIMIT:
        stray, replacing = sorted([*stray, *replacing]), []
        denying, loosened = [*loosened, *denying], []
    new = [name for name in allowing if name not in replacing]
    return stray, denying, lifted, [*loosened, *replacing], new


def _is_loosened(name: str, document: Document, observed: Mapping[str, Document]) -> bool:
    """Whether a document replaces one that only denies, and denies the same and more."""
    return name in observed and denies_all_of(observed[name], document)


def restricts(action: Action, observed: MemberRole | None) -> bool:
    """Whether an action can only take permissions away: it is carried out even if another action of the plan was rejected.

    A trust policy that differs from the desired one may be open to anyone, a session may be too long, and an edited inline policy
    may allow anything, so replacing one of them counts as a restriction. Denying less than before doesn't.
    """
    inline = observed.inline if observed else {}
    match action:
        case SetBoundary(boundary):
            return boundary is not None
        case PutInlinePolicy(name, document):
            return (only_denies(document) or name in inline) and not _is_loosened(name, document, inline)
        case DeleteInlinePolicy(name):
            return not only_denies(inline[name])
    return isinstance(action, DetachPolicy | SetTrust | SetMaxSession)


def removal(observed: MemberRole) -> tuple[Action, ...]:
    """Return the actions that delete the role: first its policies, as IAM requires, of which denies are last."""
    return (
        *(DetachPolicy(arn) for arn in sorted(observed.attached)),
        *(
            DeleteInlinePolicy(name)
            for name in sorted(observed.inline, key=lambda name: _order_of_removal(observed, name))
        ),
        DeleteRole(),
    )


def _order_of_removal(role: MemberRole, name: str) -> tuple[bool, bool, str]:
    return only_denies(role.inline[name]), name == DENY_POLICY_NAME, name


def describe(action: Action, observed: MemberRole | None) -> dict[str, Any]:
    """Return an action as a person reads it: its name, and what it changes from and to."""
    before: Any = None
    after: Any = None
    match action:
        case CreateRole(role):
            after = {
                "arn": role.arn,
                "trust": role.trust.content,
                "max_session": role.max_session,
                "boundary": role.boundary,
                "tags": dict(role.tags),
            }
        case TagRole(tags):
            held = observed.tags if observed else {}
            after = {key: value for key, value in tags.items() if held.get(key) != value}
            before = {key: held[key] for key in after if key in held}
        case SetTrust(trust):
            before, after = observed and observed.trust.content, trust.content
        case SetMaxSession(seconds):
            before, after = observed and observed.max_session, seconds
        case SetBoundary(boundary):
            before, after = observed and observed.boundary, boundary
        case PutInlinePolicy(name, document):
            replaced = observed.inline.get(name) if observed else None
            before, after = replaced and replaced.content, document.content
        case DeleteInlinePolicy(name):
            before = name
        case AttachPolicy(arn):
            after = arn
        case DetachPolicy(arn):
            before = arn
        case DeleteRole():
            before = observed and observed.arn
    return {"action": type(action).__name__, "before": before, "after": after}


def why_name_taken(settings: Settings) -> str | None:
    """Return why no role of the member role's name may be changed, or None: one is a source principal or an access role."""
    name = settings.member_role_name
    taken = list(parameters_with_role(name, settings.source_principals, settings.access_role_names))
    return f"MemberRoleName {why_taken(name, taken[0])}" if taken else None


def why_taken(name: str, parameter: str) -> str:
    """Return why a member role can't have a name that another parameter contains."""
    return f"is {name}, which {parameter} contains, too: set another name"


def why_foreign(observed: MemberRole, desired: MemberRole, settings: Settings) -> str | None:
    """Return why a role of the member role's name must not be changed, or None if it may be."""
    if observed.arn != desired.arn and observed.arn.lower() == desired.arn.lower():
        return f"{observed.arn} {DIFFERS_BY_CASE}"
    if observed.arn != desired.arn:
        return f"{observed.arn} has a path, so the source policy doesn't match it: delete it, or set another MemberRoleName"
    account_id = observed.arn.split(":")[4]
    return settings.ownership(observed.arn, observed.tags).rejection_reason(
        adopt=settings.adopts(account_id), by_id=settings.adopts_by_id(account_id), name_parameter="MemberRoleName"
    )


def why_in_stack(arn: str, stack: str) -> str:
    """Return why a role that a CloudFormation stack contains is not adopted; `stack` is its name and region."""
    return (
        f"{arn} is contained in the CloudFormation stack {stack}, which would undo Rolecall's changes or delete the role: remove "
        "it from the stack first (docs/coming-from.md), or set another MemberRoleName"
    )


def why_external_id(account_id: str) -> str:
    """Return why a source account that is not a member of the organization needs an external id, and what to do."""
    return (
        f"account {account_id} of SOURCE_PRINCIPAL_ARNS is not a member of the organization, and EXTERNAL_ID is not set: a third party's "
        "other customers could have it read these accounts (the confused deputy problem); set the external id that it gives you"
    )


def trust_document(settings: Settings) -> Document:
    """Build the trust policy: the source accounts, restricted to the source principals and the external id.

    An account's root as principal survives the re-creation of a source principal, and does not fail when one does not
    exist yet ("AWS JSON policy elements: Principal").
    """
    named = [principal for principal in settings.source_principals if principal.kind != "root"]
    whole = [principal for principal in settings.source_principals if principal.kind == "root"]
    narrowed = {"ArnEquals": {"aws:PrincipalArn": [principal.arn for principal in named]}}
    return _policy(
        *(_trust(named, narrowed, settings) if named else ()), *(_trust(whole, {}, settings) if whole else ())
    )


def _trust(principals: Iterable[Principal], narrowed: dict[str, Any], settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the statements that trust the accounts of principals on some conditions, and on the external id."""
    roots = [root_arn(settings.partition, each) for each in dict.fromkeys(each.account_id for each in principals)]
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"AWS": roots if len(roots) > 1 else roots[0]}}
    if settings.external_id is None:
        yield statement | {"Action": list(ASSUME_ACTIONS)} | _conditions(narrowed)
        return
    # sts:ExternalId is a key of AssumeRole alone ("Actions, resources, and condition keys for AWS STS").
    external = {**narrowed, "StringEquals": {"sts:ExternalId": settings.external_id}}
    yield statement | {"Action": ASSUME_ACTIONS[0]} | _conditions(external)
    yield statement | {"Action": list(ASSUME_ACTIONS[1:])} | _conditions(narrowed)


def check_sizes(settings: Settings) -> None:
    """Raise SettingsError if the trust policy or the inline policies would exceed IAM's limits."""
    problems = []
    trust = trust_document(settings).size
    if trust > TRUST_LIMIT:
        problems.append(
            f"the trust policy would take {trust} characters, and IAM allows {TRUST_LIMIT}: set fewer SOURCE_PRINCIPAL_ARNS or a shorter EXTERNAL_ID"
        )
    sizes = {
        name: document.size
        for name, document in _inline(settings, settings.management_account_id, LONGEST_ORGANIZATION_ID).items()
    }
    if sum(sizes.values()) > INLINE_LIMIT:
        denies = sizes.pop(DENY_POLICY_NAME, 0)
        remedy = (
            "shorten them"
            if not denies
            else (
                f"shorten them to {INLINE_LIMIT - denies}, deny less by DENY_DATA_READS_EXCEPT or DENY_DATA_READS=false"
            )
        )
        problems.append(
            f"the documents of MEMBER_ROLE_POLICIES would take {sum(sizes.values())} characters, {denies} more are the deny of data reads, and IAM "
            f"allows {INLINE_LIMIT} for all inline policies of a role: {remedy}, or put permissions into a managed policy of MEMBER_ROLE_POLICY_ARNS"
        )
    if problems:
        raise SettingsError(*problems)


def _policy(*statements: dict[str, Any]) -> Document:
    return Document.of({"Version": "2012-10-17", "Statement": list(statements)})


def _conditions(conditions: dict[str, Any]) -> dict[str, Any]:
    return {"Condition": conditions} if conditions else {}


def _filled(text: str, settings: Settings, account_id: str) -> str:
    return text.replace("{partition}", settings.partition).replace("{account_id}", account_id)
