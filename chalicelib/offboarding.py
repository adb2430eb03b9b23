"""Revoking access: retire accounts, uninstall everything, freeze and unfreeze.

Each writes a mark and sends messages: publish revokes first, then enroll deletes the roles.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import REMOVAL_REASONS, UNREACHABLE, Access, LedgerRow, format_time
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, RequestError
from chalicelib.messages import Message, Trigger
from chalicelib.requests import Request, Selection
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from chalicelib.sweep.preview import Preview
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.functions import PublishFunction
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.queues import AccountsQueue, NoPublishQueue, PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_RESERVE_SECONDS = 5.0  # of the function's time, kept for its response
_PAUSE_SECONDS = 1.0
_INVOKE_SECONDS = 12.0  # that an invocation of publish takes at most (`aws.sessions.invoke_config`)


class Offboarding:
    """Retires accounts and uninstalls."""

    def __init__(
        self,
        settings: Settings,
        ledger: "Ledger",
        table: "SourcePolicyTable",
        accounts: "AccountsQueue",
        publish: "PublishQueue | NoPublishQueue",
        preview: Preview,
        clock: Callable[[], float],
    ) -> None:
        """Take a clock in seconds since the epoch."""
        self._settings = settings
        self._ledger = ledger
        self._table = table
        self._accounts = accounts
        self._publish = publish
        self._preview = preview
        self._clock = clock

    def retire(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Retire accounts by id, or with `all` and `force` uninstall: the source policy, then every role.

        Repeating the request continues it, and returns what is left.
        """
        if isinstance(request.accounts, tuple):
            return self._retire(request, request.accounts, deadline)
        if request.accounts is not Selection.ALL or request.ous or request.reasons:
            raise RequestError("retire takes a list of account ids, or all for everything to be uninstalled")
        if request.dry_run:
            left = sorted(row.account_id for row in self._ledger.rows() if _is_left(row))
            # A request that continues it would uninstall.
            return self._uninstalled([{"account_id": account_id} for account_id in left]) | {"next": None}
        if not request.force:
            raise RequestError(
                'retiring all accounts uninstalls everything: confirm it with {"accounts": "all", "force": true}'
            )
        return self._uninstall(request.after, deadline)

    def _uninstall(self, after: str, deadline: float) -> dict[str, Any]:
        control = self._table.load().control
        if not control.uninstalling:
            self._table.set_uninstalling(uninstalling=True)
        self._publish.send()
        rows = {row.account_id: row for row in self._ledger.rows() if _is_left(row)}
        left = list(rows)
        self._accounts.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in left)
        following = ""
        shown: list[dict[str, Any]] = [{"account_id": account_id} for account_id in left]
        if all(map(self._was_tried, rows.values())):
            # A role whose creation was interrupted is in no row. Accounts that can't be entered don't delay the search for it.
            looked_at, following = self._preview.find_roles(after, deadline=deadline)
            unrecorded = [each for each in looked_at if each["account_id"] not in rows]
            found = [AccountId(each["account_id"]) for each in unrecorded if each["actions"]]
            self._accounts.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in found)
            shown += unrecorded
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, len(left))
        logger.info("uninstall", left=len(left))
        answer = self._uninstalled(shown, following)
        if answer["next"] is None and not control.uninstalled:
            # No role is left: publish deletes the recorded names, so that others may be set.
            self._table.set_uninstalling(uninstalling=True, uninstalled=True)
            self._publish.send()
        if answer["next"] is None and not self._settings.keeps_source_policy:
            self._table.delete_status()
        return answer

    def _was_tried(self, row: LedgerRow) -> bool:
        """Whether enroll has handled an account's uninstall, and could not delete its role."""
        # In scope none, access is in force as long as the role is there.
        is_handled = not row.has_access if self._settings.keeps_source_policy else row.access is not Access.GRANTED
        return is_handled and row.reason in REMOVAL_REASONS

    def _retire(self, request: Request, account_ids: tuple[AccountId, ...], deadline: float) -> dict[str, Any]:
        unknown = sorted(set(account_ids) - set(self._ledger.read(account_ids)))
        if unknown:
            raise RequestError(f"the ledger has no account {', '.join(unknown)}: nothing was retired")
        if request.dry_run:
            selected = ((account_id, None) for account_id in account_ids)
            return self._preview.plan(request, selected, deadline=deadline, retiring=True)
        now = format_time(datetime.fromtimestamp(self._clock(), UTC))
        for account_id in account_ids:
            self._ledger.request_retirement(account_id, now)
        self._accounts.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in account_ids)
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, len(account_ids))
        return {"counts": {"sent": len(account_ids)}, "accounts": [], "source_policy": [], "next": None}

    def _uninstalled(self, left: list[dict[str, Any]], after: str = "") -> dict[str, Any]:
        records = self._table.load()
        shards = [
            {
                "policy_name": record.name,
                "accounts": len(record.content.accounts),
                "error": record.error.error if record.error else None,
            }
            for record in records.shards
        ]
        following: dict[str, Any] | None = None
        if left or shards or after or (records.are_lost and self._settings.keeps_source_policy):
            following = {"accounts": "all", "force": True}
        if following is not None and after:
            following["after"] = after
        return {
            "counts": {"left": len(left), "shards_left": len(shards)},
            "accounts": left,
            "source_policy": shards,
            "next": following,
        }


class Freeze:
    """Freezes and unfreezes the source policy."""

    def __init__(
        self,
        settings: Settings,
        table: "SourcePolicyTable",
        queue: "PublishQueue",
        function: "PublishFunction",
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        """Take a clock in seconds since the epoch, and what waits for some seconds."""
        self._settings = settings
        self._table = table
        self._queue = queue
        self._function = function
        self._clock = clock
        self._pause = pause

    def __call__(self, *, frozen: bool, deadline: float) -> dict[str, Any]:
        """Deny the source principals every new session, or lift that; return whether it is in force, and if not, why.

        The mark is stored whatever happens, and every later run of publish applies it: also where publish can't be invoked, since a
        message asks for a run.
        """
        self._table.set_frozen(datetime.fromtimestamp(self._clock(), UTC), frozen=frozen)
        self._queue.send()
        logger.warning("freeze", frozen=frozen)
        not_invoked = self._invoke()
        while True:
            records = self._table.load()
            why = why_not_in_force(records, self._settings, frozen=frozen)
            left = deadline - _RESERVE_SECONDS - _PAUSE_SECONDS - self._clock()
            is_final = why is None or not (records.shards or records.are_lost)
            if is_final or left < 0:
                why = f"{why}; {not_invoked}" if why and not_invoked else why
                return {"frozen": frozen, "in_force": why is None, "why": why}
            self._pause(_PAUSE_SECONDS)
            if left > _INVOKE_SECONDS:
                not_invoked = self._invoke()

    def _invoke(self) -> str | None:
        """Run publish, and return why it could not be invoked, or None."""
        try:
            self._function.invoke()
        except AccountError as error:
            logger.warning("publish could not be invoked", reason=error.reason, error=str(error))
            return str(error)
        return None


def why_not_in_force(records: Records, settings: Settings, *, frozen: bool) -> str | None:
    """Return why a freeze, or its end, is not in force, or None if it is."""
    changed = records.why_renamed(settings)
    problems = [changed] if changed else []
    problems += [f"{record.name}: {record.error.error}" for record in records.shards if record.error]
    if records.are_lost:
        return "; ".join(["the records of the source policy are incomplete, and are restored from IAM", *problems])
    if not frozen:
        if not any(each.content.frozen for record in records.shards for each in record.versions):
            return None
        return "; ".join(["a shard still denies everything", *problems])
    if not any(record.versions or record.error for record in records.shards):
        return "there is no source policy to freeze yet: the mark is stored, and each shard is frozen as it is created"
    if records.freeze_in_force(settings):
        return None
    if left := sorted(records.not_denied(settings)):
        return "; ".join([f"a read of IAM has not shown yet that everything is denied: {', '.join(left)}", *problems])
    return "; ".join(["IAM shows the source policy attached to no principal", *problems])


def _is_left(row: LedgerRow) -> bool:
    return row.has_access or (row.role_arn is not None and row.reason not in UNREACHABLE)
