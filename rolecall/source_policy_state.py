"""The state of the source policy, computed from its records and its drift, as status, report and doctor show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from chalicelib.errors import Reason
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import Problem, Records, ShardRecord, shard_name
from rolecall.reasons import REMEDY

RESTORE = (
    "run rolecall resync, after which publish restores them from IAM. Don't restore the table from a backup, which is older than "
    "IAM: delete its items instead, and publish restores all of them"
)
"""What to do about lost records."""

NEVER_PUBLISHED = "publish has not run yet"
NO_SOURCE_POLICY = "none: with SourcePolicyScope=none, a member role's trust alone grants access"
LEFT_OVER = "a source policy is installed although SourcePolicyScope is none: set it back, or uninstall the stage first"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardState:
    """One shard: the accounts that it grants (or excludes, in scope organization), and its capacity.

    `unfinished` is whether a write to IAM began and is not recorded as complete, `error` why the latest write failed, and `drift`
    what others changed in IAM since.
    """

    policy_name: str
    scope: Scope
    accounts: int
    excluded: int
    capacity: int
    attached: tuple[str, ...]
    frozen: bool
    unfinished: bool
    error: Problem | None
    drift: str | None
    written_at: datetime | None
    verified_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePolicyState:
    """The source policy as a whole.

    `known` is False before the first run of publish; then `room`, `blocked` and the times are None. `frozen` is the latest
    request, and `freeze_in_force` whether IAM matches it. `compared` is whether the shards were compared with IAM. `room` is the
    number of shards that fit on each source principal, and `lost` names the records that are missing or unreadable.
    """

    known: bool
    compared: bool
    scope: Scope
    scope_asked_for: Scope
    scope_problem: Problem | None
    shards: tuple[ShardState, ...]
    lost: tuple[str, ...]
    room: int | None
    blocked: Problem | None
    remedy: str | None
    frozen: bool
    freeze_in_force: bool
    uninstalling: bool
    uninstalled: bool
    looked_at: datetime | None
    checked_at: datetime | None
    verified_at: datetime | None
    repairs: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        """Whether there is a source policy, or should be."""
        return self.scope_asked_for is not Scope.NONE or bool(self.shards)

    @property
    def is_left_over(self) -> bool:
        """Whether a source policy is installed that the settings do without: no function may change it."""
        return self.scope_asked_for is Scope.NONE and bool(self.shards)

    @property
    def problems(self) -> tuple[str, ...]:
        """What needs attention, one sentence each."""
        # After an uninstall there is nothing left to publish.
        unknown = self.is_kept and not self.known and not self.uninstalled and not self.lost
        other_scope = (
            not self.is_left_over
            and self.scope_problem is None
            and self.shards
            and self.scope is not self.scope_asked_for
        )
        found = [
            (self.uninstalling, "the stage is uninstalled" if self.uninstalled else "the stage is being uninstalled"),
            (self.frozen and self.freeze_in_force, "frozen: every new session is denied"),
            (self.frozen and not self.freeze_in_force, "a freeze was requested and is not in force"),
            (not self.frozen and not self.freeze_in_force, "an unfreeze was requested and is not in force"),
            (unknown, f"the state of the source policy is unknown: {NEVER_PUBLISHED}"),
            (self.blocked, self.blocked and f"publishing is blocked: {self.blocked.reason}: {self.blocked.error}"),
            *((each.error, each.error and f"{each.policy_name}: {each.error.error}") for each in self.shards),
            *(
                (each.unfinished and not each.error, f"{each.policy_name} is not completely written")
                for each in self.shards
            ),
            *(
                (each.drift, f"{each.policy_name} was changed by others: {each.drift}: run rolecall resync")
                for each in self.shards
            ),
            (self.is_left_over, LEFT_OVER),
            (self.lost, f"records are lost: {', '.join(self.lost)}"),
            (self.scope_problem, self.scope_problem and self.scope_problem.error),
            (
                other_scope,
                f"the source policy has scope {self.scope}: the next resync changes it to {self.scope_asked_for}",
            ),
        ]
        return tuple(str(sentence) for applies, sentence in found if applies)


def read_source_policy(
    records: Records, settings: Settings, drift: Mapping[str, str] | None = None
) -> SourcePolicyState:
    """Compute the state of the source policy; `drift` is how shards differ in IAM, or None if they were not compared."""
    control, status, settings = records.control, records.status, records.installed(settings)
    blocked = status.blocked if status else None
    frozen, in_force = freeze_state(records, settings)
    return SourcePolicyState(
        known=status is not None,
        compared=drift is not None,
        scope=records.scope if records.shards else settings.source_policy_scope,
        scope_asked_for=settings.source_policy_scope,
        scope_problem=status.scope if status else None,
        shards=tuple(_shard(record, settings, (drift or {}).get(record.name)) for record in records.shards),
        lost=_lost(records, settings.source_policy_name),
        room=status.room if status and status.looked_at else None,
        blocked=blocked,
        remedy=REMEDY[blocked.reason] if blocked else None,
        frozen=frozen,
        freeze_in_force=in_force and not (frozen and drift),
        uninstalling=control.uninstalling or control.uninstalled,
        uninstalled=control.uninstalled,
        looked_at=status.looked_at if status else None,
        checked_at=status.checked_at if status else None,
        verified_at=status.verified_at if status else None,
        repairs=tuple(f"{each['action']} {each['policy_name']}" for each in status.repairs) if status else (),
    )


def freeze_state(records: Records, settings: Settings) -> tuple[bool, bool]:
    """Return whether a freeze is requested, and whether IAM matches the request."""
    if not (settings.keeps_source_policy or records.shards):
        return False, True
    requested = records.control.frozen
    frozen = any(record.is_frozen for record in records.shards) if requested is None else requested
    if frozen:
        return True, records.freeze_in_force(settings)
    return False, not any(each.content.frozen for record in records.shards for each in record.versions)


def blocked_reason(records: Records) -> Reason | None:
    """Return why publishing is blocked, or None if it isn't blocked or has never run."""
    return records.status.blocked.reason if records.status and records.status.blocked else None


def _shard(record: ShardRecord, settings: Settings, drift: str | None) -> ShardState:
    content = record.content
    whole = content.scope is Scope.ORGANIZATION
    return ShardState(
        policy_name=record.name,
        scope=content.scope,
        accounts=len(content.accounts),
        excluded=len(content.excluded),
        capacity=exclusion_capacity(settings) if whole else capacity(settings),
        attached=tuple(sorted(record.attached)),
        frozen=record.is_frozen,
        unfinished=record.applied is None or record.applying is not None,
        error=record.error,
        drift=drift,
        written_at=record.written_at,
        verified_at=record.verified_at,
    )


def _lost(records: Records, source_policy_name: str) -> tuple[str, ...]:
    lost = set(records.unreadable)
    status = records.status
    if status is None:
        # Shards are only written after the status.
        lost |= {"#status"} if records.by_index and not records.control.uninstalled else set()
    else:
        expected = range(max([status.shards, *(index + 1 for index in records.by_index)]))
        lost |= {shard_name(source_policy_name, index) for index in expected if index not in records.by_index}
    return tuple(sorted(lost))
