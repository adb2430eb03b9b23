"""One account: what the ledger, Organizations, the settings, a dry run and the log have about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.requests import Request, write_request
from rolecall.errors import CommandError
from rolecall.reasons import MEANING, REMEDY, more
from rolecall.source_policy import blocked_reason
from rolecall.stage import Stage

_LOG_LINES = 5
_LOG_WINDOW = timedelta(days=2)  # the daily resync leaves a line a day


@dataclass(frozen=True, kw_only=True, slots=True)
class OneAccount:
    """What is known of one account.

    `account` is None for what is no member, `row` if it was not handled yet, and `plan` if the dry run ended with `plan_error`;
    `path` names the root and the organizational units above it. `shard` is the shard that grants it by name, and `blocked` why
    publishing is blocked.
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
    blocked: Reason | None = None

    @property
    def name(self) -> str:
        """The name that it has in Organizations, or had when it was recorded."""
        return (self.account.name if self.account else self.row.name if self.row else None) or ""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome to show, or None if it was not handled yet."""
        return shown_outcome(self.row, self.blocked)[0] if self.row else None

    @property
    def reason(self) -> Reason | None:
        """Why it is not enrolled."""
        return shown_outcome(self.row, self.blocked)[1] if self.row else None

    @property
    def exit_status(self) -> int:
        """The exit status: 1 if the account should be enrolled and isn't, or could not be verified."""
        waiting = self.row is None and self.account is not None
        return 1 if waiting or self.outcome in {Outcome.FAILED, Outcome.PENDING} else 0

    def as_json(self) -> dict[str, Any]:
        """Write all of it as plain data, with the policy documents whole."""
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
            "more": more(reason) if reason else None,
            "role": role_json(self.role),
            "plan": self.plan,
            "plan_error": self.plan_error,
            "log": list(self.log),
            "exit_status": self.exit_status,
        }


def read_one(stage: Stage, account_id: AccountId) -> OneAccount:
    """Read all about an account; raise CommandError if it is neither in the organization nor in the ledger."""
    records = stage.records()
    row, account = stage.row(account_id), stage.account(account_id)
    if row is None and account is None:
        raise CommandError(f"neither the organization nor the ledger of stage {stage.name} knows account {account_id}")
    plan, plan_error = _plan(stage, account_id)
    lines = stage.log_lines("enroll", f'{{ $.account_id = "{account_id}" }}', since=_LOG_WINDOW)
    about = [line for line in lines if line.get("account_id") == account_id]
    return OneAccount(
        account_id=account_id,
        account=account,
        path=tuple(unit.name for unit in stage.above(account_id)) if account else (),
        row=row,
        role=desired_role(stage.settings, account_id),
        plan=plan,
        plan_error=plan_error,
        log=tuple(about[-_LOG_LINES:]),
        shard=next((each.name for each in records.shards if account_id in each.content.accounts), None),
        blocked=blocked_reason(records),
    )


def _plan(stage: Stage, account_id: AccountId) -> tuple[dict[str, Any] | None, str | None]:
    """Ask for the dry run of one account; who may not ask for it still wants to see the rest."""
    try:
        answer = stage.invoke("backfill", write_request(Request(accounts=(account_id,), dry_run=True)))
    except CommandError as error:
        return None, str(error)
    return answer["accounts"][0], None


def role_json(role: MemberRole) -> dict[str, Any]:
    """Write a member role as plain data."""
    return {
        "arn": role.arn,
        "trust": role.trust.content,
        "max_session": role.max_session,
        "boundary": role.boundary,
        "tags": dict(role.tags),
        "attached": sorted(role.attached),
        "inline": {name: document.content for name, document in role.inline.items()},
    }
