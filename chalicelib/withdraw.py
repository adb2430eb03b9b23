"""Taking access away: retire accounts, uninstall everything, freeze and unfreeze."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import OUT_OF_REACH, LedgerRow, Outcome, written_moment
from chalicelib.arns import AccountId
from chalicelib.errors import Reason, RequestError
from chalicelib.pen import Pen
from chalicelib.reconcile import REMOVED
from chalicelib.requests import Message, Request, Selection, Trigger
from chalicelib.sweep import Sweep
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.queue import Queue


class Withdraw:
    """Marks and sends; the workers take the accounts out of the source policy first, then their roles away."""

    def __init__(self, ledger: "Ledger", queue: "Queue", pen: Pen, sweep: Sweep, clock: Callable[[], float]) -> None:
        """Take a clock in seconds since the epoch."""
        self._ledger = ledger
        self._queue = queue
        self._pen = pen
        self._sweep = sweep
        self._clock = clock

    def retire(self, request: Request, *, owner: str, deadline: float) -> dict[str, Any]:
        """Retire accounts by id, or with `all` and `force` uninstall: every account, then the source policy itself.

        Asking for the same again goes on where it stopped, and tells what is left.
        """
        self._pen.standing()  # Refuses settings under which what is there would not be found.
        if isinstance(request.accounts, tuple):
            return self._retire(request, request.accounts, deadline)
        if request.accounts is not Selection.ALL or request.ous or request.reasons:
            raise RequestError("retire takes a list of account ids, or all for everything to be uninstalled")
        if request.dry_run:
            left = sorted(row.account_id for row in self._ledger.rows() if _is_left(row))
            # Nothing continues it: a request that goes on would be one that uninstalls.
            return self._uninstalled([{"account_id": account_id} for account_id in left]) | {"next": None}
        if not request.force:
            raise RequestError(
                'retiring all accounts uninstalls everything: say so with {"accounts": "all", "force": true}'
            )
        self._pen.stop()
        if self._pen.standing().names_everyone:
            # No policy has room to leave out a whole organization, account by account: it goes first.
            self._pen.remove(owner=owner, deadline=deadline)
        rows = {row.account_id: row for row in self._ledger.rows() if _is_left(row)}
        left = list(rows)
        self._queue.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in left)
        after = ""
        told: list[dict[str, Any]] = [{"account_id": account_id} for account_id in left]
        if not left:
            self._pen.remove(owner=owner, deadline=deadline)
        if all(map(_was_tried, rows.values())):
            # No row tells of a role whose maker was stopped: what can't be reached elsewhere must not hide it.
            looked_at, after = self._sweep.leftovers(request.after, deadline=deadline)
            unrecorded = [each for each in looked_at if each["account_id"] not in rows]
            found = [AccountId(each["account_id"]) for each in unrecorded if each["actions"]]
            self._queue.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in found)
            told += unrecorded
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, len(left))
        logger.info("uninstall", left=len(left))
        answer = self._uninstalled(told, after)
        if answer["next"] is None:
            self._pen.forget_names()
        return answer

    def _retire(self, request: Request, account_ids: tuple[AccountId, ...], deadline: float) -> dict[str, Any]:
        rows = self._ledger.read(account_ids)
        unknown = sorted(set(account_ids) - set(rows))
        if unknown:
            raise RequestError(f"the ledger has no account {', '.join(unknown)}: nothing was retired")
        if request.dry_run:
            return self._sweep.preview_retirement(request, deadline=deadline)
        moment = written_moment(datetime.fromtimestamp(self._clock(), UTC))
        for row in rows.values():
            marked = replace(row, outcome=Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST, updated_at=moment)
            if row.reason is not Reason.RETIRED_BY_REQUEST and not self._ledger.write(marked, over=row):
                raise RequestError(f"{row.account_id} is being worked on just now: ask again in a minute")
        self._queue.send(Message(account_id=account_id, trigger=Trigger.RETIRE) for account_id in account_ids)
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, len(account_ids))
        return {"counts": {"sent": len(account_ids)}, "accounts": [], "source_policy": [], "next": None}

    def _uninstalled(self, left: list[dict[str, Any]], after: str = "") -> dict[str, Any]:
        shards = [{"policy_name": shard.name, "accounts": len(shard.accounts)} for shard in self._pen.standing().shards]
        following: dict[str, Any] | None = {"accounts": "all", "force": True} if left or shards or after else None
        if following is not None and after:
            following["after"] = after
        return {
            "counts": {"left": len(left), "shards_left": len(shards)},
            "accounts": left,
            "source_policy": shards,
            "next": following,
        }

    def freeze(self, *, frozen: bool, owner: str, deadline: float) -> dict[str, Any]:
        """Deny the source principals every new session, or let them again; it takes effect within IAM's propagation."""
        errors = self._pen.freeze(frozen=frozen, owner=owner, deadline=deadline)
        for error in errors.values():
            raise error
        metrics.add_metric(Metric.FROZEN, MetricUnit.Count, int(frozen))
        logger.warning("freeze", frozen=frozen)
        return {"frozen": frozen}


def _was_tried(row: LedgerRow) -> bool:
    """Tell whether a worker has taken an account out of the source policy, and could not take its role away."""
    return row.policy_name is None and row.reason in REMOVED


def _is_left(row: LedgerRow) -> bool:
    return row.policy_name is not None or (row.role_arn is not None and row.reason not in OUT_OF_REACH)
