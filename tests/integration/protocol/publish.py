"""Publish: one run that writes to IAM what the ledger's rows grant."""

from collections.abc import Generator, Mapping
from dataclasses import replace

from tests.integration.protocol.rules import Rules
from tests.integration.protocol.world import (
    EMPTY,
    Access,
    Call,
    Content,
    Records,
    RunEndedError,
    ShardRecord,
    Status,
    Steps,
    Substeps,
    TerminalError,
    TransientError,
    UnknownOutcomeError,
    World,
)

LEASE_SECONDS = 20.0
CALL_SECONDS = 15.0
MARGIN_SECONDS = 2.0  # for clocks that differ, and from the check until the call begins
SETTLE_SECONDS = 120.0  # after which a read of IAM is up to date
PASSES = 4
MAX_SHARDS = 10  # more than any seed fills
SKEW_SECONDS = 0.5  # that a run's clock may be wrong by


def assign(
    shards: Mapping[int, frozenset[str]], rows: Mapping[str, Access | None], capacity: int
) -> dict[int, set[str]]:
    """Return each shard's accounts. An account keeps its shard while it fits; new accounts fill the first with room."""
    desired: dict[int, set[str]] = {}
    assigned: set[str] = set()
    for shard in sorted(shards):
        kept = sorted(account for account in shards[shard] - assigned if rows.get(account) is not Access.NONE)
        desired[shard] = set(kept[:capacity])
        assigned |= desired[shard]
    kept_anywhere = {account for accounts in shards.values() for account in accounts if rows.get(account) is None}
    granted = {account for account, access in rows.items() if access is Access.GRANTED}
    for account in sorted((granted | kept_anywhere) - assigned):
        shard = next(n for n in range(len(assigned) + len(desired) + 1) if len(desired.get(n, ())) < capacity)
        desired.setdefault(shard, set()).add(account)
    return desired


class Publish:
    """One run."""

    def __init__(self, world: World, rules: Rules, run: int) -> None:
        self._world = world
        self._rules = rules
        self._run = run
        self._skew = world.random.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        self._started = 0.0
        self._until = 0.0
        self._records = Records({}, Status(), frozen=None, verify_requested_at=-1.0, two_sets=rules.two_sets)
        self._shards: dict[int, ShardRecord] = {}
        self._rows: dict[str, Access | None] = {}
        self._frozen = False
        self._tried: set[int] = set()
        self._rejected: set[int] = set()
        self._outcome_unknown = False

    def steps(self) -> Steps:
        """Run to the end, or raise if the messages have to return to the queue."""
        yield from self._acquire_lease()
        try:
            yield from self._publish()
        except (RunEndedError, TransientError, TerminalError) as error:
            if self._frozen and not isinstance(error, RunEndedError):
                self._world.check_deny(self._records.shards, self._tried)
            yield from self._release_lease()
            raise
        yield from self._release_lease()
        return []

    def _publish(self) -> Substeps:
        yield from self._read()
        if self._rules.freeze_first:
            yield from self._freeze()
        if self._records.incomplete:
            yield from self._recover()
            if self._rules.freeze_first:
                yield from self._freeze()
        for _ in range(PASSES):
            if not (yield from self._write_differences()):
                break
        if not self._rules.freeze_first:
            yield from self._freeze()
        yield from self._verify()

    # Lease

    def _now(self) -> float:
        return self._world.now + self._skew

    def _acquire_lease(self) -> Substeps:
        began = self._now()
        yield None
        status = self._world.table.status or Status()
        if self._rules.run_lease and status.owner is not None and status.until > self._now():
            raise RunEndedError
        self._started, self._until = self._world.now, began + LEASE_SECONDS
        self._world.table.status = replace(status, owner=self._run, until=self._until)

    def _renew_lease(self) -> Substeps:
        if not (self._rules.run_lease and self._rules.lease_is_renewed):
            return
        needed = CALL_SECONDS + MARGIN_SECONDS if self._rules.lease_outlasts_call else 0.0
        while self._now() + needed > self._until:
            began = self._now()
            yield None
            status = self._world.table.status or Status()
            if self._rules.renewal_is_conditional and status.owner != self._run:
                raise RunEndedError
            if self._rules.freeze_ends_run and self._world.table.frozen is not self._records.frozen:
                raise RunEndedError
            self._until = began + LEASE_SECONDS
            self._world.table.status = replace(status, owner=self._run, until=self._until)

    def _release_lease(self) -> Substeps:
        if self._outcome_unknown and self._rules.unknown_outcome_keeps_lease:
            return
        yield None
        status = self._world.table.status
        if status is not None and status.owner == self._run:
            self._world.table.status = replace(status, owner=None)

    # Reads

    def _read(self) -> Substeps:
        """Read the whole source-policy table, then the ledger, page by page."""
        yield None
        self._records = self._world.table.read(two_sets=self._rules.two_sets)
        self._shards = dict(self._records.shards)
        accounts = sorted(self._world.eligible)
        for page in (accounts[::2], accounts[1::2]):
            yield None
            self._rows |= self._world.read_access(page)
        self._decide_freeze()

    def _decide_freeze(self) -> None:
        mark = self._records.frozen
        applied = any(content.frozen for record in self._shards.values() for content in record.possible)
        self._frozen = mark if mark is not None else applied and self._rules.missing_flag_keeps_freeze

    def _recover(self) -> Substeps:
        """Replace lost records by what IAM contains, once its reads are up to date.

        A shard may be missing in IAM, too, and the next one exist.
        """
        status = self._records.status
        fresh = status.shards is None and not self._shards and not any(self._rows.values())
        if self._rules.recovery_waits and not fresh:
            if status.lost_at is None:
                yield from self._update_status(lost_at=self._now())
            if status.lost_at is None or self._now() < status.lost_at + SETTLE_SECONDS:
                raise RunEndedError
            yield from self._update_status(lost_at=None)
        found: dict[int, Content] = {}
        for shard in range(MAX_SHARDS if self._rules.lost_record_is_read_from_iam else 0):
            yield None
            policy = self._world.read_policy(shard)
            if policy is not None and shard not in self._shards:
                found[shard] = policy[0]
        count = max([status.shards or 0, *(known + 1 for known in (*self._shards, *found))])
        yield from self._update_status(shards=count)
        for shard in set(range(count)) - self._shards.keys():
            yield from self._put_record(shard, ShardRecord(found.get(shard, EMPTY)))
        self._decide_freeze()

    # Writes

    def _freeze(self) -> Substeps:
        """Add the deny to every shard that may lack it."""
        if not self._frozen:
            return
        failed: TransientError | None = None
        none = {account for account, access in self._rows.items() if access is Access.NONE}
        for shard, record in sorted(self._shards.items()):
            if not record.surely_frozen:
                self._tried.add(shard)
                try:
                    yield from self._write_shard(shard, Content(record.latest.accounts - none, frozen=True))
                except TransientError as error:
                    if not self._rules.freeze_ignores_errors:
                        raise
                    failed = error
        if failed is not None:
            raise failed

    def _write_differences(self) -> Generator[Call | None, None, bool]:
        """Write every shard that differs, those that gain accounts first, and return whether any did.

        An account that moves is in both shards until the next pass; a shard that IAM rejects is tried once.
        """
        differed = False
        applied = {shard: record.latest.accounts for shard, record in self._shards.items()}
        rows = self._rows
        if not self._rules.missing_row_keeps_access:
            rows = {account: rows.get(account) or Access.NONE for account in self._world.eligible}
        desired = assign(applied, rows, self._world.capacity)
        gaining = sorted(desired, key=lambda shard: (not self._gains(shard, desired[shard]), shard))
        for shard in gaining if self._rules.widens_before_it_narrows else reversed(gaining):
            accounts = desired[shard]
            if self._rules.widens_before_it_narrows:
                accounts |= self._not_recorded_elsewhere(shard, desired)
            record = self._shards.get(shard, ShardRecord())
            frozen = self._frozen if self._rules.freeze_first else self._frozen and record.latest.frozen
            content = Content(frozenset(accounts), frozen)
            if (record.applying or record.applied != content) and shard not in self._rejected:
                yield from self._write_shard(shard, content)
                differed = True
        return differed

    def _gains(self, shard: int, desired: set[str]) -> bool:
        """Whether a shard is to grant access to an account that it does not surely grant access to yet."""
        possible = self._shards.get(shard, ShardRecord()).possible
        return any(desired - content.accounts for content in possible)

    def _not_recorded_elsewhere(self, shard: int, desired: Mapping[int, set[str]]) -> set[str]:
        """Return the accounts that leave this shard for another that does not surely grant them access yet."""
        record = self._shards.get(shard, ShardRecord())
        leaving = {account for content in record.possible for account in content.accounts} - desired[shard]
        wanted = {account for accounts in desired.values() for account in accounts}
        others = replace(self._records, shards={n: other for n, other in self._shards.items() if n != shard})
        return {account for account in leaving & wanted if not others.surely_grant(account)}

    def _call(self, call: Call) -> Substeps:
        try:
            yield call
        except UnknownOutcomeError:
            self._outcome_unknown = True
            raise

    def _write_shard(self, shard: int, content: Content) -> Substeps:
        record = self._shards.get(shard, ShardRecord())
        record = replace(record, written_at=self._now())
        if self._rules.record_before_iam:
            applying = record.applying if self._rules.applying_is_kept else ()
            applying = applying if applying and applying[-1] == content else (*applying, content)
            yield from self._put_record(shard, replace(record, applying=applying))
        counted = self._records.status.shards  # None while lost: only the recovery sets it
        if self._rules.shards_are_counted and counted is not None and shard >= counted:
            yield from self._update_status(shards=shard + 1)
        yield from self._renew_lease()
        if not self._rules.call_follows_check:
            yield None
        try:
            yield from self._call(self._world.write_policy(shard, content, self._rows, self._started))
        except TerminalError:
            if not self._rules.error_belongs_to_shard:
                raise
            self._rejected.add(shard)
            yield from self._put_record(shard, replace(record, error=True))
        else:
            yield from self._put_record(shard, ShardRecord(content, written_at=self._now()))

    def _put_record(self, shard: int, record: ShardRecord) -> Substeps:
        if self._rules.records_need_lease:
            yield from self._renew_lease()
        self._shards[shard] = record
        yield from self._call(Call(lambda: self._world.table.shards.update({shard: record})))

    def _update_status(self, **changes: float | None) -> Substeps:
        """Change attributes of `#status`, on condition that this run owns the lease."""
        yield from self._renew_lease()

        def effect() -> None:
            status = self._world.table.status or Status()
            if self._rules.run_lease and status.owner != self._run:
                raise RunEndedError
            self._world.table.status = replace(status, **changes)  # type: ignore[arg-type]

        yield from self._call(Call(effect))
        self._records = replace(self._records, status=replace(self._records.status, **changes))  # type: ignore[arg-type]

    # Verification

    def _verify(self) -> Substeps:
        requested_at = self._records.verify_requested_at
        if requested_at <= self._records.status.verified_at:
            return
        for shard, record in sorted(self._shards.items()):
            if self._rules.verification_waits and self._now() < record.written_at + SETTLE_SECONDS:
                continue
            yield None
            policy = self._world.read_policy(shard)
            content, default, versions = policy or (EMPTY, 0, frozenset())
            if not self._rules.verification_trusts_record:
                yield from self._put_record(shard, ShardRecord(content))
            elif content != record.applied:
                yield from self._renew_lease()
                self._world.check_repair(shard)
                yield from self._write_shard(shard, record.applied)
            for version in sorted(versions - {default}):
                yield from self._renew_lease()
                yield from self._call(self._world.delete_version(shard, version))
        yield from self._update_status(verified_at=requested_at)
