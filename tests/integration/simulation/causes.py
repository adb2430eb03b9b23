"""Why accounts may lose access in a random run: what made each ineligible, and when."""

from typing import TYPE_CHECKING

from tests.integration.simulation.cloud import SOURCE
from tests.integration.simulation.members import IDS, MANAGEMENT, UNKNOWN_ACCOUNT

if TYPE_CHECKING:
    from tests.integration.simulation.random_run import RandomRun

_CAUSE_SECONDS = 7200.0  # for which a cause may have effect: in a listing, a slow function or a waiting message
_ACCOUNTS = (*IDS, MANAGEMENT, SOURCE, UNKNOWN_ACCOUNT)


class Causes:
    """The times at which accounts were last ineligible."""

    def __init__(self, run: "RandomRun") -> None:
        self._run, self._cloud = run, run.cloud
        self.retired: set[str] = set()  # by request
        self._ineligible_at: dict[str, float] = {}
        self.uninstalled_at = 0.0
        self._granted: frozenset[str] = frozenset()

    @property
    def has_source_policy(self) -> bool:
        """Whether the run has a source policy."""
        return self._run.has_source_policy

    def is_ineligible(self, account_id: str) -> bool:
        """Whether an account should not be granted now."""
        return not self._cloud.is_active(account_id) or self.is_excluded(account_id)

    def is_excluded(self, account_id: str) -> bool:
        """Whether an account should not be granted because of an operator's request or the settings."""
        if self._cloud.is_uninstalling:
            return True
        if account_id in self.retired and "retirement_requested_at" in self._cloud.row(account_id):
            return True
        member = self._cloud.members.members.get(account_id)
        unit, env = (member.unit, member.env) if member else (None, None)
        return any(
            account_id in settings.get("EXCLUDE_ACCOUNT_IDS", "")
            or (unit is not None and unit in settings.get("EXCLUDE_OU_IDS", ""))
            or ("INCLUDE_OU_IDS" in settings and (unit is None or unit not in settings["INCLUDE_OU_IDS"]))
            or settings.get("EXCLUDE_TAGS") == f"env={env}"
            or settings.get("INCLUDE_TAGS", f"env={env}") != f"env={env}"
            or (account_id == MANAGEMENT and settings.get("INCLUDE_MANAGEMENT_ACCOUNT") == "false")
            for settings in self._run.settings_in_use
        )

    def retire(self, account_id: str) -> None:
        """Note a request to retire an account, which may be made within a day."""
        self.retired.add(account_id)
        self._ineligible_at[account_id] = self._cloud.now + 86_400

    def note(self) -> None:
        if self._cloud.is_uninstalling:
            self.uninstalled_at = self._cloud.now
        for account_id in filter(self.is_ineligible, _ACCOUNTS):
            self._ineligible_at[account_id] = max(self._cloud.now, self._ineligible_at.get(account_id, 0.0))

    def check(self, caller: str, since: float) -> None:
        """Require a cause for every account whose row no longer grants it.

        The caller began at some time: a call of one that was killed takes effect later, at the next step of time.
        """
        before = self._granted
        self.note_granted()
        self.note()
        for account_id in before - self._granted:
            at = max(self._ineligible_at.get(account_id, 0.0), self.uninstalled_at)
            invariant = f"no account is retired without cause, as {account_id} by {caller}"
            self._cloud.require(invariant, at > min(since, self._cloud.now) - _CAUSE_SECONDS)

    def note_granted(self) -> None:
        rows = self._cloud.tables.items.get("ledger", {})
        self._granted = frozenset(each for each, row in rows.items() if row.get("access") == {"S": "granted"})
