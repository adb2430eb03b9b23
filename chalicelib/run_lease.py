"""The lease that lets one run of publish write at a time.

SQS delivers one batch of the publish queue's message group at a time, which makes overlapping runs rare, not impossible: pollers are throttled,
timeouts are raised, and operators and freeze invoke the function directly.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.errors import RolecallError

if TYPE_CHECKING:
    from chalicelib.aws.source_policy_table import SourcePolicyTable

LEASE_SECONDS = 20.0
"""How long a run keeps others out after it was killed.

A write begins at most 3 seconds after a renewal and ends within 15 (`aws.sessions.publish_config`), so 2 are left for clocks that differ.
"""

_RENEW_SECONDS = 3.0
_RESERVE_SECONDS = 30.0  # No write begins in the last seconds before the function is stopped.


class RunEndedError(RolecallError):
    """A run must not write any more; its messages return to the queue."""


class RunLease:
    """The lease of one run, renewed while it works."""

    def __init__(self, table: "SourcePolicyTable", owner: str, *, deadline: float, clock: Callable[[], float]) -> None:
        """Take the function's deadline, and a clock in seconds since the epoch."""
        self._table = table
        self._owner = owner
        self._last_write = deadline - _RESERVE_SECONDS
        self._clock = clock
        self._renewed_at = 0.0
        self._is_kept = False
        self.freeze_requested_at: datetime | None = None

    def acquire(self) -> bool:
        """Take the lease, or return False if another run holds it."""
        now = self._renewed_at = self._clock()
        return self._table.acquire_run(self._owner, now=now, until=now + LEASE_SECONDS)

    def keep(self) -> None:
        """Keep the lease until it expires, since a call whose outcome is unknown may still take effect."""
        self._is_kept = True

    def release(self) -> None:
        """Give the lease back, unless it is kept."""
        if not self._is_kept:
            self._table.release_run(self._owner)

    def hold(self) -> None:
        """Return if a write may begin now; raise RunEndedError if the time, or the lease, is over.

        A run also ends early when a freeze was asked for, or lifted, since it began, so that the freeze doesn't wait for it.
        """
        while True:
            now = self._clock()
            if now >= self._last_write:
                raise RunEndedError("the function's time is nearly over")
            if now - self._renewed_at < _RENEW_SECONDS:
                return
            if not self._table.renew_run(self._owner, until=now + LEASE_SECONDS):
                raise RunEndedError("another run took the lease")
            self._renewed_at = now
            if self._table.control().freeze_requested_at != self.freeze_requested_at:
                raise RunEndedError("a freeze was asked for, or lifted")
            # These calls may have taken as long as the lease lasts: look at the clock again.
