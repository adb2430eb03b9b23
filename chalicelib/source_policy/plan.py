"""A shard in IAM, and the plan that changes an observed or last applied one into the desired one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from chalicelib.documents import Document
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import digest, document
from chalicelib.source_policy.records import AppliedShard, ShardContent, ShardRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePolicy:
    """A shard in IAM, desired or observed; a document that is None is not known.

    `tagged` is whether it carries the ownership tags, and `strays` are versions newer than the default one, which publish
    never creates. `version_id` is the observed default version, and `groups` are those that an operator attached it to.
    """

    name: str
    document: Document | None
    attached: frozenset[str]
    tagged: bool = True
    strays: tuple[str, ...] = ()
    version_id: str = field(default="", compare=False)
    groups: frozenset[str] = field(default=frozenset(), compare=False)


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
    unfinished, and after a change of settings. An attachment that is not known counts as there only if it isn't desired, or if
    attaching is the operator's.
    """
    applied = record.applied
    if applied is None:
        return None
    is_current = record.applying is None and applied.digest == digest(settings, applied.content, organization_id)
    surely = frozenset.intersection(*(each.attached for each in record.versions))
    known = surely if settings.attach_source_policy else record.attached
    return SourcePolicy(
        name=record.name,
        document=document(settings, applied.content, organization_id) if is_current else None,
        attached=known | (record.attached - desired.attached),
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
