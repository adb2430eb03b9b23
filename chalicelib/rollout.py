"""A change of the member role in waves: the outdated roles, and those of them that a sweep changes now.

The state is in the ledger alone. At most `RolloutPercent` of the roles are being changed at any time: a sweep sends the
first of the outdated ones, which are the same again until a pass has written their rows, and none while one of them
fails.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.accounts import Access, Account, LedgerRow, Outcome, is_retry_pending
from chalicelib.errors import Reason
from chalicelib.member_role import fingerprint
from chalicelib.settings import Settings

AT_ONCE = 100
"""The percentage with which there are no waves: no role waits, and none is counted."""


@dataclass(slots=True)
class Rollout:
    """Counts of the eligible accounts' roles: at the current settings, outdated, and failed to change.

    `retrying` are those of the failed ones that the queue still retries. By default there are no waves.
    """

    fingerprint: str = ""
    percent: int = AT_ONCE
    current: int = 0
    failed: Counter[Reason] = field(default_factory=Counter)
    retrying: int = 0
    _outdated: list[tuple[str, Account]] = field(default_factory=list)

    @classmethod
    def to(cls, settings: Settings) -> "Rollout":
        """Return the rollout to the current settings, before any account is counted."""
        return cls(fingerprint(settings), settings.rollout_percent)

    def count(self, account: Account, row: LedgerRow | None, ineligible: Reason | None, now: datetime) -> bool:
        """Count an account, and return whether its role is outdated, so that it waits for its wave.

        A role without a fingerprint may have been made for any settings. An account that fails for other reasons
        doesn't count.
        """
        if row is None or ineligible is not None or self.percent == AT_ONCE:
            return False
        if row.outcome is Outcome.FAILED and row.attempted_fingerprint is not None:
            self.failed[row.reason or Reason.UNEXPECTED] += 1
            self.retrying += is_retry_pending(row, now)
        elif row.outcome is Outcome.ENROLLED and row.fingerprint == self.fingerprint:
            self.current += 1
        elif row.outcome is Outcome.ENROLLED:
            self._outdated.append((row.enrolled_at or "", account))
            return True
        return False

    @property
    def outdated(self) -> int:
        """The number of roles that were made for other settings."""
        return len(self._outdated)

    @property
    def total(self) -> int:
        """The number of roles."""
        return self.current + self.outdated + self.failed.total()

    @property
    def size(self) -> int:
        """The number of roles that are changed at a time, at most."""
        return wave_size(self.total, self.percent)

    @property
    def waiting(self) -> int:
        """The number of outdated roles that this wave does not change yet."""
        return self.outdated if self.failed else max(0, self.outdated - self.size)

    @property
    def is_stopped(self) -> bool:
        """Whether outdated roles wait for an operator: a change failed, and isn't retried any more."""
        return self.outdated > 0 and self.failed.total() > self.retrying

    def wave(self) -> list[Account]:
        """Return the accounts to change now: the latest enrolled first, and none while one fails."""
        if self.failed:
            return []
        self._outdated.sort(key=lambda pair: (pair[0], pair[1].id), reverse=True)
        return [account for _, account in self._outdated[: self.size]]


def awaits_wave(row: LedgerRow | None, settings: Settings, current: str) -> bool:
    """Whether an account's role was made for other settings than those with a fingerprint, and is left to a wave.

    A failed change is tried again with any message.
    """
    if row is None or settings.rollout_percent == AT_ONCE or row.access is not Access.GRANTED:
        return False
    # Of a failed account without a fingerprint, it is not known what its role should be.
    has_role = row.outcome is Outcome.ENROLLED or (row.outcome is Outcome.FAILED and row.fingerprint is not None)
    return has_role and row.attempted_fingerprint is None and row.fingerprint != current


def wave_size(roles: int, percent: int) -> int:
    """Return how many of some roles are changed at a time: at least one."""
    return max(1, roles * percent // 100)
