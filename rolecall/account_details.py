"""Everything about one account: from the ledger, Organizations, the settings, a dry run and the log."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, listed_outcome, why_ineligible
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.requests import Request, write_request
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.organization_units import read_path
from rolecall.reasons import MEANING, REMEDY, runbook_section
from rolecall.source_policy_state import blocked_reason
from rolecall.stage import Stage

_MAX_LOG_LINES = 5
_LOG_WINDOW = timedelta(days=2)  # the daily resync logs every account


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountDetails:
    """One account.

    `account` is None for an account outside the organization, `row` if it was not handled yet, and `plan` if the dry run ended
    with `plan_error`. `path` has the names of the root and the organizational units above it, `shard` the shard that grants it
    by id, `ineligible` why the account must not be enrolled, and `blocked` why publishing is blocked.
    """

    account_id: AccountId
    account: Account | None
    path: tuple[str, ...]
    row: LedgerRow | None
    role: MemberRole
    plan: Mapping[str, Any] | None
    plan_error: str | None
    log: tuple[Mapping[str, Any], ...]
    shard: str | None = None
    ineligible: Reason | None = None
    blocked: Reason | None = None

    @property
    def name(self) -> str:
        """The name in Organizations, or the last recorded one."""
        return (self.account.name if self.account else self.row.name if self.row else None) or ""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome to show, or None while the account waits to be enrolled."""
        return listed_outcome(self.row, self.ineligible, self.blocked)[0]

    @property
    def reason(self) -> Reason | None:
        """Why the account is not enrolled, or None if it is."""
        return listed_outcome(self.row, self.ineligible, self.blocked)[1]

    @property
    def exit_status(self) -> ExitStatus:
        """PROBLEM if the account should be enrolled and isn't, or could not be verified."""
        failing = self.outcome in {None, Outcome.FAILED, Outcome.PENDING}
        return ExitStatus.PROBLEM if failing else ExitStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Return the details, with complete policy documents, as JSON data."""
        reason = self.reason
        return {
            "account_id": self.account_id,
            "name": self.name,
            "account": asdict(self.account) if self.account else None,
            "path": list(self.path),
            "outcome": self.outcome,
            "reason": reason,
            "shard": self.shard,
            "row": asdict(self.row) if self.row else None,
            "meaning": MEANING[reason] if reason else None,
            "remedy": REMEDY[reason] if reason else None,
            "runbook": runbook_section(reason) if reason else None,
            "role": _role_json(self.role),
            "plan": self.plan,
            "plan_error": self.plan_error,
            "log": list(self.log),
            "exit_status": self.exit_status,
        }


def read_details(stage: Stage, account_id: AccountId) -> AccountDetails:
    """Read everything about an account. Raise CommandError if it is neither in the organization nor in the ledger."""
    records = stage.records()
    row, account = stage.row(account_id), stage.account(account_id)
    if row is None and account is None:
        raise CommandError(
            f"account {account_id} is neither in the organization nor in the ledger of stage {stage.name}"
        )
    plan, plan_error = _plan(stage, account_id)
    lines = stage.log_lines("enroll", f'{{ $.account_id = "{account_id}" }}', since=_LOG_WINDOW)
    log = [line for _, line in lines if line.get("account_id") == account_id]
    uninstalling = records.control.uninstalling or records.control.uninstalled
    path = read_path(stage.client("organizations"), account_id) if account else []
    return AccountDetails(
        account_id=account_id,
        account=account,
        path=tuple(unit.name for unit in path),
        row=row,
        role=desired_role(stage.settings, account_id, *([records.status.organization_id] if records.status else [])),
        plan=plan,
        plan_error=plan_error,
        log=tuple(log[-_MAX_LOG_LINES:]),
        shard=next((each.name for each in records.shards if account_id in each.content.accounts), None),
        ineligible=why_ineligible(account, row, stage.settings, uninstalling=uninstalling),
        blocked=blocked_reason(records),
    )


def _plan(stage: Stage, account_id: AccountId) -> tuple[dict[str, Any] | None, str | None]:
    """Return the dry run of an account, or its error: everything else can be shown without permission to invoke it."""
    try:
        response = stage.invoke("backfill", write_request(Request(accounts=(account_id,), dry_run=True)))
    except CommandError as error:
        return None, str(error)
    return response["accounts"][0], None


def _role_json(role: MemberRole) -> dict[str, Any]:
    return {
        "arn": role.arn,
        "trust": role.trust.content,
        "max_session": role.max_session,
        "boundary": role.boundary,
        "tags": dict(role.tags),
        "attached": sorted(role.attached),
        "inline": {name: document.content for name, document in role.inline.items()},
    }
