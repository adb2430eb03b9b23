"""Bugs that a worker may be made with, one in each mechanism that the pen rests on: the simulation must notice every one."""

from collections.abc import Mapping
from dataclasses import replace

from chalicelib.accounts import Account, LedgerRow
from chalicelib.aws.shards import Snapshot
from chalicelib.enroll import Enroll, _Job
from chalicelib.errors import Reason
from chalicelib.pen import Pen, Settled
from chalicelib.source_policy import Moves, Shard, accounts_named, shard_name
from tests.pen.adapters import Ledger, ShardTable
from tests.pen.simulation import Parts


class PlacesWithoutCounting(ShardTable):
    """Changes what a shard should name without raising its version."""

    def _place(self, seen: Snapshot, shards: list[Shard]) -> bool:
        versions = {shard.name: shard.version for shard in seen.shards}
        return super()._place(seen, [replace(shard, version=versions.get(shard.name, 1)) for shard in shards])


class MarksTheNewest(ShardTable):
    """Marks the version that is placed by now, not the one that was written."""

    def mark_written(self, shard: Shard) -> None:
        super().mark_written(replace(shard, written=self._world.items[shard.name].version))


class LooksOnce(ShardTable):
    """Lets go of the pen without another look at what others placed meanwhile."""

    def _has_moved(self, seen: Snapshot) -> bool:
        return self._world.holder != self._worker.owner and super()._has_moved(seen)


class TakesItsSnapshotForNew(ShardTable):
    """Finds its accounts placed already in a snapshot that others have overtaken."""

    def _has_moved(self, seen: Snapshot) -> bool:
        return self._world.holder == self._worker.owner and super()._has_moved(seen)


class WaitsForNoOne(Pen):
    """Finishes messages though another worker, who holds the pen, has yet to write their shard."""

    def settle(self, moves: Moves, *, owner: str, deadline: float, seen: Snapshot | None = None) -> Settled:
        settled = super().settle(moves, owner=owner, deadline=deadline, seen=seen)
        waiting = {name for name, error in settled.errors.items() if error.reason is Reason.SOURCE_POLICY_PENDING}
        return Settled(settled.shards, {name: settled.errors[name] for name in settled.errors.keys() - waiting})


class TakesThePenFromOthers(ShardTable):
    """Heeds no lease."""

    def take_pen(self, owner: str, *, now: float, until: float) -> bool:
        return super().take_pen(owner, now=until + now, until=until)


class TakesThePenForever(ShardTable):
    """Heeds a lease even after its time."""

    def take_pen(self, owner: str, *, now: float, until: float) -> bool:
        return super().take_pen(owner, now=now - now, until=until)


class TakesThePenTooShortly(ShardTable):
    """Takes a lease that ends before its holder does."""

    def take_pen(self, owner: str, *, now: float, until: float) -> bool:
        return super().take_pen(owner, now=now, until=min(until, now + 20))


class LosesThePen(ShardTable):
    """Can't tell its own lease, when the answer to taking it was lost, from another's."""

    def _take_pen(self, owner: str, now: int, until: int) -> bool:
        return self._world.holder != owner and super()._take_pen(owner, now, until)


class PlacesOverOthers(ShardTable):
    """Stores a placement that others have overtaken."""

    def _place(self, seen: Snapshot, shards: list[Shard]) -> bool:
        return super()._place(replace(seen, placement=self._world.placement), shards)


class TakesInLate(Pen):
    """Takes in what IAM holds though others opened that shard meanwhile."""

    def _take_in(self, snapshot: Snapshot) -> bool:
        existing = self._policies.find(shard_name(self._settings, len(snapshot.shards)))
        taken_in = super()._take_in(snapshot)
        if existing is not None and not taken_in:
            self._place(Moves(join=accounts_named(existing.document, self._settings)), None)
        return taken_in


class OverwritesRows(Ledger):
    """Writes a row whoever wrote one meanwhile."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(row, over=self._world.rows.get(row.account_id, over))


class TrustsOldListings(Enroll):
    """Takes a listing's word though the account was looked at since."""

    def _believed(self, job: _Job) -> Account | None:
        return super()._believed(replace(job, row=None))


class Stumbles(Enroll):
    """Fails in a way that nobody foresaw."""

    def _believed(self, job: _Job) -> Account | None:
        return None if job.message.account is None else job.message.account.id  # type: ignore[return-value]


PLANTED: Mapping[str, tuple[Parts, str]] = {
    "a placement that raises no version": (Parts(table=PlacesWithoutCounting), "only when its shard is written"),
    "a mark on the newest version": (Parts(table=MarksTheNewest), "what is marked as written is what IAM says"),
    "no look again": (Parts(table=LooksOnce), "no shard is left behind"),
    "a snapshot that is out of date": (Parts(table=TakesItsSnapshotForNew), "only when its shard is written"),
    "no wait for the holder": (Parts(pen=WaitsForNoOne), "only when its shard is written"),
    "a lease that is not heeded": (Parts(table=TakesThePenFromOthers), "without the lease"),
    "a lease that never ends": (Parts(table=TakesThePenForever), "no message is given up"),
    "a lease that ends too early": (Parts(table=TakesThePenTooShortly), "without the lease"),
    "a lease that its holder does not know": (Parts(table=LosesThePen), "no one keeps the pen"),
    "a placement over others'": (Parts(table=PlacesOverOthers), "is named exactly when it should be"),
    "two shards for one account": (Parts(table=PlacesOverOthers), "no account is in two shards"),
    "a take-in of what is ours by now": (Parts(pen=TakesInLate), "is named exactly when it should be"),
    "a row over another's": (Parts(ledger=OverwritesRows), "is named exactly when it should be"),
    "an exception that nobody foresaw": (Parts(enroll=Stumbles), "nothing unforeseen is raised"),
    "a listing that is out of date": (Parts(enroll=TrustsOldListings), "is named exactly when it should be"),
}
"""Each bug as a worker with it is made, and the rule that it breaks."""
