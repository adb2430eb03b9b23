"""The state that the processes share: accounts, ledger, source-policy table, IAM, queues, and a clock.

Every write to IAM is checked against the accounts' rows.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random

STALE_SECONDS = 60.0  # IAM's reads may be as old as this
FREEZE_SECONDS = 6.0  # from the flag, until a run writes nothing but the freeze


class Access(StrEnum):
    """The access that a row grants."""

    GRANTED = "granted"
    NONE = "none"


class Violation(StrEnum):
    """A violated invariant."""

    WRONG_END = "IAM does not grant what it should when all queues are empty"
    REVOKED = "access was revoked without a row that denies it"
    OPENED = "access was granted against a row that denies it"
    ROLE_FIRST = "a role was deleted while IAM granted access to its account"
    WRONG_ROLES = "a granted account has no role, or a retired account has one"
    WRONG_FREEZE = "IAM is not as frozen as it should be when all queues are empty"
    FREEZE_LATE = "something else was written before the deny of every shard"
    FALSE_REPAIR = "a shard was repaired that had not drifted"
    DEFAULT_VERSION = "the default version was to be deleted"
    NEVER_ENDS = "the queues do not become empty"


class TerminalError(Exception):
    """IAM rejects the write of this shard."""


class TransientError(Exception):
    """A call failed. It may have taken effect."""


class UnknownOutcomeError(TransientError):
    """A call timed out. It may still take effect."""


class RunEndedError(Exception):
    """A run ends early: another holds the lease, the freeze flag has changed, or IAM can't be read yet."""


@dataclass(frozen=True, slots=True)
class Call:
    """A write that takes time. It takes effect at some time after it began, maybe after its process has ended."""

    effect: Callable[[], None]


Steps = Generator[Call | None, None, list[str]]
"""A process. Between two steps others run, time passes, or the process is killed. Returns the messages to retry."""
Substeps = Generator[Call | None, None, None]


@dataclass(frozen=True, slots=True)
class Row:
    """An account's row in the ledger."""

    revision: int = 0
    access: Access | None = None
    access_since: float = 0.0
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a shard."""

    accounts: frozenset[str] = frozenset()
    frozen: bool = False


EMPTY = Content()


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """The content last known to be in IAM, and those that were written since."""

    applied: Content = EMPTY
    applying: tuple[Content, ...] = ()
    written_at: float = -1000.0  # when the last write ended, or began if it failed
    error: bool = False

    @property
    def possible(self) -> tuple[Content, ...]:
        return (self.applied, *self.applying)

    @property
    def latest(self) -> Content:
        return self.possible[-1]

    @property
    def surely_frozen(self) -> bool:
        return all(content.frozen for content in self.possible)


@dataclass(frozen=True, slots=True)
class Status:
    """The item `#status`. An attribute that was never written, or lost, is None."""

    owner: int | None = None
    until: float = 0.0
    shards: int | None = None
    lost_at: float | None = None
    verified_at: float = -1.0


@dataclass(frozen=True, slots=True)
class Records:
    """A consistent read of the whole source-policy table."""

    shards: Mapping[int, ShardRecord]
    status: Status
    frozen: bool | None
    verify_requested_at: float
    two_sets: bool

    @property
    def incomplete(self) -> bool:
        """Whether a record was lost."""
        counted = self.status.shards
        return counted is None or sorted(self.shards) != list(range(max(counted, len(self.shards))))

    def surely_grant(self, account: str) -> bool:
        return any(
            all(account in content.accounts for content in self._contents(record)) for record in self.shards.values()
        )

    def may_grant(self, account: str) -> bool:
        return any(
            any(account in content.accounts for content in self._contents(record)) for record in self.shards.values()
        )

    def _contents(self, record: ShardRecord) -> tuple[Content, ...]:
        return record.possible if self.two_sets else (record.latest,)


@dataclass
class Table:
    """The source-policy table."""

    shards: dict[int, ShardRecord] = field(default_factory=dict)
    status: Status | None = None
    frozen: bool | None = None
    verify_requested_at: float = -1.0

    def read(self, *, two_sets: bool) -> Records:
        return Records(
            dict(self.shards), self.status or Status(), self.frozen, self.verify_requested_at, two_sets=two_sets
        )


class Policy:
    """One shard in IAM, with as much of its history as a stale read may return."""

    def __init__(self) -> None:
        self.published = EMPTY
        self.edited = False
        self.versions: set[int] = set()
        self._history: list[tuple[float, Content, int]] = [(-STALE_SECONDS, EMPTY, 0)]

    @property
    def content(self) -> Content:
        return self._history[-1][1]

    @property
    def default(self) -> int:
        return self._history[-1][2]

    def publish(self, now: float, content: Content) -> None:
        """Write a version as publish does, and delete the others."""
        self.published, self.edited = content, False
        self._set_default(now, content)
        self.versions = {self.default}

    def edit(self, now: float, content: Content) -> None:
        """Write a version by hand."""
        self.edited = True
        self._set_default(now, content)

    def add_stray_version(self) -> None:
        self.versions.add(-max(self.versions))

    def read(self, at: float) -> tuple[Content, int]:
        """Return content and default version as they were at a time."""
        past = (entry for entry in reversed(self._history) if entry[0] <= at)
        _, content, version = next(past, self._history[0])
        return content, version

    def _set_default(self, now: float, content: Content) -> None:
        version = self.default + 1
        self._history = [*self._history[-20:], (now, content, version)]
        self.versions.add(version)


class World:
    """The state that processes read and write, each access atomic."""

    def __init__(self, random: Random, accounts: Iterable[str], capacity: int) -> None:
        self.random = random
        self.now = 0.0
        self.eligible = {account: random.random() < 0.7 for account in accounts}
        self.may_lose_access = {account for account, eligible in self.eligible.items() if not eligible}
        self.failure_rate = 0.0
        self.capacity = capacity
        self.rows: dict[str, Row] = {}
        self.table = Table()
        self.iam: dict[int, Policy] = {}
        self.broken_shards: set[int] = set()
        self.roles: set[str] = set()
        self.accounts_queue: list[tuple[float, str]] = [(0.0, account) for account in accounts]
        self.publish_queue: list[float] = []
        self.frozen_since: float | None = None
        self.violations: set[Violation] = set()
        self._read_as_none: set[str] = set()

    def send_publish(self) -> None:
        self.publish_queue.append(self.now)

    def send_account(self, account: str, delay: float = 0.0) -> None:
        self.accounts_queue.append((self.now + delay, account))

    def published_accounts(self) -> frozenset[str]:
        """Return the accounts that IAM grants access to, apart from edits by hand."""
        return frozenset().union(*(policy.published.accounts for policy in self.iam.values()))

    def should_grant(self, account: str) -> bool:
        return self.eligible[account] and not self.rows.get(account, Row()).retired

    def update_row(self, account: str, access: Access | None) -> None:
        row = self.rows.get(account, Row())
        since = row.access_since if access is row.access else self.now
        self.rows[account] = replace(row, revision=row.revision + 1, access=access, access_since=since)

    def delete_role(self, account: str, granted_when_read: frozenset[str]) -> None:
        """Delete a role, which IAM must not have granted access to when enroll read the records."""
        if account in granted_when_read:
            self.violations.add(Violation.ROLE_FIRST)
        self.roles.discard(account)

    def read_policy(self, shard: int) -> tuple[Content, int, frozenset[int]] | None:
        """Return a shard's content, default version and versions, or None if it does not exist.

        Content and default version may be out of date; the versions are not.
        """
        policy = self.iam.get(shard)
        if policy is None:
            return None
        age = self.random.choice((0.0, self.random.uniform(0, STALE_SECONDS), STALE_SECONDS))
        content, default = policy.read(self.now - age)
        return (content, default, frozenset(policy.versions)) if default else None

    def read_access(self, accounts: Iterable[str]) -> dict[str, Access | None]:
        """Return the access of accounts that have a row, for a run of publish."""
        read = {account: row.access for account in accounts if (row := self.rows.get(account))}
        self._read_as_none -= {account for account, access in read.items() if access is Access.GRANTED}
        self._read_as_none |= {account for account, access in read.items() if access is Access.NONE}
        return read

    def write_policy(self, shard: int, content: Content, read: Mapping[str, Access | None], started: float) -> Call:
        """Begin to write a shard, for a run that has read these rows since it started."""
        self._check_freeze(shard, content)
        none = {account for account, access in read.items() if access is Access.NONE}
        may_lose_access = (self._read_as_none | none) & self.may_lose_access

        def effect() -> None:
            if shard in self.broken_shards:
                raise TerminalError
            before = self.published_accounts()
            self.iam.setdefault(shard, Policy()).publish(self.now, content)
            after = self.published_accounts()
            if not content.frozen and before - after - may_lose_access:
                self.violations.add(Violation.REVOKED)
            if any(self._had_none(account, started) for account in after - before):
                self.violations.add(Violation.OPENED)

        return Call(effect)

    def delete_version(self, shard: int, version: int) -> Call:
        """Begin to delete a version. The default version stays: IAM answers DeleteConflict."""
        policy = self.iam[shard]

        def effect() -> None:
            if version != policy.default:
                policy.versions.discard(version)
            elif not policy.edited:
                self.violations.add(Violation.DEFAULT_VERSION)

        return Call(effect)

    def check_repair(self, shard: int) -> None:
        """Check that a shard that is about to be repaired has drifted."""
        policy = self.iam.get(shard)
        record = self.table.shards.get(shard)
        if policy is not None and record is not None and not policy.edited and policy.content == record.applied:
            self.violations.add(Violation.FALSE_REPAIR)

    def check_deny(self, recorded: Iterable[int], tried: set[int]) -> None:
        """Check that a run that failed has tried to freeze every shard that was recorded."""
        if any(
            not policy.content.frozen and not policy.edited and shard not in tried
            for shard, policy in self.iam.items()
            if shard in recorded
        ):
            self.violations.add(Violation.FREEZE_LATE)

    def _had_none(self, account: str, since: float) -> bool:
        row = self.rows.get(account)
        return row is not None and row.access is Access.NONE and row.access_since <= since

    def _check_freeze(self, shard: int, content: Content) -> None:
        if self.frozen_since is None or self.now < self.frozen_since + FREEZE_SECONDS:
            return
        policy, record = self.iam.get(shard, Policy()), self.table.shards.get(shard, ShardRecord())
        if content.frozen and not (policy.content.frozen and record.surely_frozen):
            return
        if any(
            not policy.content.frozen and not policy.edited and number not in self.broken_shards
            for number, policy in self.iam.items()
            if number in self.table.shards
        ):
            self.violations.add(Violation.FREEZE_LATE)
