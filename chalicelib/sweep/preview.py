"""Dry runs: what would change, by the same plans that would be applied."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.accounts import UNREACHABLE, Access, Account, LedgerRow, format_time
from chalicelib.arns import AccountId
from chalicelib.chunks import chunked
from chalicelib.errors import AccountError
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.requests import Request, write_request
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import MAX_SHARDS, Records, ShardRecord, shard_name

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.sessions import Sessions
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_RESERVE_SECONDS = 30.0  # of the function's time, kept for its response
_MAX_RESPONSE_CHARS = 4_000_000  # of the accounts in a response; Lambda allows 6 MB in all ("Lambda quotas")

_T = TypeVar("_T")


class Preview:
    """Plans without applying."""

    def __init__(
        self,
        settings: Settings,
        ledger: "Ledger",
        table: "SourcePolicyTable",
        reconciler: Reconciler,
        sessions: "Sessions",
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take a clock in seconds since the epoch, and what opens a pool of so many threads."""
        self._settings = settings
        self._ledger = ledger
        self._table = table
        self._reconciler = reconciler
        self._sessions = sessions
        self._clock = clock
        self._pool = pool

    def plan(
        self,
        request: Request,
        selected: Iterable[tuple[AccountId, Account | None]],
        *,
        deadline: float,
        uninstalling: bool = False,
        retiring: bool = False,
        waiting: int = 0,
    ) -> dict[str, Any]:
        """Return what would change for each selected account and why, in the order of account ids.

        `waiting` further ones wait for a later wave of a change of settings.
        `next` in the response is the request that continues, if the time or the size of a response was too short.
        """
        chosen = sorted(selected, key=lambda pair: pair[0])
        pending = [pair for pair in chosen if pair[0] > request.after]
        records = self._table.load()
        installed = records.installed(self._settings)

        def reconcile(pair: tuple[AccountId, Account | None]) -> Verdict:
            row = self._row_then(pair[0], request, retiring=retiring)
            blocking = self._blocking(pair[0], row, records)
            return self._reconciler(
                pair[0],
                row,
                listed=pair[1],
                blocking=blocking,
                keeping=records.stuck_error(self._settings),
                installed=installed,
                uninstalling=uninstalling,
                dry_run=True,
                adopting=request.adopt,
            )

        verdicts, done = self._until_full(pending, reconcile, deadline)
        changes = {access: [each.account_id for each in verdicts if each.access is access] for access in Access}
        counts = Counter(f"{each.outcome}" for each in verdicts) + Counter(f"change_{each.change}" for each in verdicts)
        following = replace(request, after=pending[done - 1][0]) if done < len(pending) else None
        return {
            "counts": {"selected": len(chosen), "rollout_waiting": waiting, **counts},
            "accounts": [_shown(verdict) for verdict in verdicts],
            "source_policy": planned_shards(records, changes, installed) if installed.keeps_source_policy else [],
            "packed_policy_percent": self._sessions.packed_policy_percent,
            "next": write_request(following) if following else None,
        }

    def _blocking(self, account_id: AccountId, row: LedgerRow | None, records: Records) -> AccountError | None:
        if records.status is None:  # Before the first run of publish it is not known what blocks an account.
            return None
        return records.blocking_error(account_id, row.access if row else None, self._settings, requested_at=None)

    def _row_then(self, account_id: AccountId, request: Request, *, retiring: bool) -> LedgerRow | None:
        """Return an account's row as the request would change it first."""
        row = self._ledger.read([account_id]).get(account_id)
        if row is None:
            return None
        if retiring:
            return replace(row, retirement_requested_at=format_time(datetime.fromtimestamp(self._clock(), UTC)))
        is_named = isinstance(request.accounts, tuple)
        return replace(row, retirement_requested_at=None) if is_named else row

    def find_roles(self, after: str, *, deadline: float) -> tuple[list[dict[str, Any]], str]:
        """Look for a role of this stage in every account that the ledger contains and that can be reached.

        Return the accounts with a role, or that could not be checked, and the account id to continue after: empty at the end.
        """
        # A row without a name is of an id that Organizations never listed: it is not entered.
        listed_once = (row for row in self._ledger.rows() if row.name is not None)
        reachable = (row.account_id for row in listed_once if row.reason not in UNREACHABLE)
        left_out = () if self._settings.include_management_account else (self._settings.management_account_id,)
        pending = sorted(each for each in reachable if each > after and each not in left_out)
        installed = self._table.load().installed(self._settings)

        def check(account_id: AccountId) -> Verdict:
            # Without a listing: an account is entered only if Organizations describes it as a member.
            return self._reconciler(account_id, None, installed=installed, uninstalling=True, dry_run=True)

        verdicts, done = self._until_full(
            pending, check, deadline, lambda verdict: bool(verdict.actions or verdict.error)
        )
        return [_shown(verdict) for verdict in verdicts], pending[done - 1] if done < len(pending) else ""

    def _until_full(
        self,
        pending: Sequence[_T],
        check: Callable[[_T], Verdict],
        deadline: float,
        is_shown: Callable[[Verdict], bool] = lambda _: True,
    ) -> tuple[list[Verdict], int]:
        """Return the verdicts to show, and how many were made when the time or the size of a response was used up."""
        shown: list[Verdict] = []
        done = size = 0
        with self._pool(self._settings.threads) as pool:
            for chunk in chunked(pending, self._settings.threads * 2):
                verdicts = [verdict for verdict in pool.map(check, chunk) if is_shown(verdict)]
                shown += verdicts
                size += sum(len(json.dumps(_shown(verdict))) for verdict in verdicts)
                done += len(chunk)
                if size > _MAX_RESPONSE_CHARS or self._clock() > deadline - _RESERVE_SECONDS:
                    break
        return shown, done


def planned_shards(
    records: Records, changes: Mapping[Access, Collection[AccountId]], settings: Settings
) -> list[dict[str, Any]]:
    """Return what the shards would grant after changes of access, as publish would assign them.

    Before the first run of publish it is not known whether a policy of a shard's name exists, or how much room there is.
    """
    # Where a record was lost, publish has yet to restore it.
    held = [records.by_index.get(index, ShardRecord(name="")) for index in range(max(records.by_index, default=-1) + 1)]
    contents = [record.content for record in held]
    scope = records.scope if contents else settings.source_policy_scope
    room = min(records.status.room, MAX_SHARDS) if records.status and records.status.looked_at else MAX_SHARDS
    assignment = assign(contents, changes, settings, scope=scope, max_shards=room)
    blocked = records.status.blocked if records.status else None
    planned = []
    for index, content in enumerate(assignment.contents):
        old = contents[index].accounts if index < len(contents) else frozenset[AccountId]()
        problem = held[index].error if index < len(held) else blocked
        planned.append(
            {
                "policy_name": shard_name(settings.source_policy_name, index),
                "accounts": len(content.accounts),
                "capacity": capacity(settings),
                "granted": sorted(content.accounts - old),
                "revoked": sorted(old - content.accounts) if scope is Scope.ACCOUNTS else [],
                "error": problem.error if problem else None,
            }
        )
    if assignment.unassigned and planned:
        count = len(assignment.unassigned)
        planned[-1]["error"] = f"no room for {count} account{'s' if count > 1 else ''}"
    return planned


def _shown(verdict: Verdict) -> dict[str, Any]:
    return {
        "account_id": verdict.account_id,
        "outcome": verdict.outcome,
        "change": verdict.change,
        "reason": verdict.reason,
        "error": verdict.error,
        "actions": list(verdict.actions),
        "adopts": verdict.adopts,
    }
