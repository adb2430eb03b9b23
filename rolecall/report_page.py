"""The report as one page of HTML."""

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from chalicelib.accounts import Outcome
from chalicelib.arns import role_arn
from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.errors import Reason
from chalicelib.member_role import ASSUME_ACTIONS, trust_document
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import ShardContent
from rolecall import __version__
from rolecall.console import printable
from rolecall.files import MARK
from rolecall.reasons import MEANING, REMEDY, TITLE
from rolecall.report import Report
from rolecall.report_accounts import WAITING, ReportedAccount
from rolecall.report_data import COLUMNS, escaped_cells
from rolecall.source_policy_state import LEFT_OVER, RESTORE

_OUTCOMES = (Outcome.ENROLLED, Outcome.FAILED, Outcome.PENDING, WAITING, Outcome.SKIPPED, Outcome.RETIRED)
_BAR_WIDTH = 1000
_MIN_BAR_SHARE = 0.004
# In a larger organization, units with many accounts are collapsed at first.
_MAX_ACCOUNTS_OPEN = 500
_MAX_UNIT_OPEN = 50
_MAX_CALLS_OPEN = 20


def render_report(report: Report) -> str:
    """Return the page: a single file without external resources, which its content security policy enforces."""
    settings, policy = report.settings, report.source_policy
    counts = Counter(account.outcome for account in report.accounts)
    evidence = report.evidence
    results = evidence.results if evidence else {}
    return _ENVIRONMENT.get_template("report.html").render(
        report=report,
        origin=report.origin,
        settings=settings,
        coverage=report.coverage,
        policy=policy,
        shards=policy.shards,
        version=__version__,
        mark=f"{MARK} report",
        counts=counts,
        bar=_bar(counts),
        large=len(report.accounts) > _MAX_ACCOUNTS_OPEN,
        max_unit_open=_MAX_UNIT_OPEN,
        outcomes=_OUTCOMES,
        reasons=_reasons(report.accounts),
        failures=_by_reason(report.accounts, {Outcome.FAILED}),
        pending=_by_reason(report.accounts, {Outcome.PENDING}),
        ineligible=_by_reason(report.accounts, {Outcome.SKIPPED, Outcome.RETIRED}),
        still_granted=[account for account in report.accounts if account.still_granted],
        changes=report.changes,
        evidence=evidence,
        denials=[{"same": same, "count": len(same.calls)} for same in evidence.denials] if evidence else [],
        results=results,
        tested_enrolled=sum(
            account.outcome == Outcome.ENROLLED and account.account_id in results for account in report.accounts
        ),
        max_calls_open=_MAX_CALLS_OPEN,
        title=TITLE,
        meaning=MEANING,
        remedy=REMEDY,
        restore=RESTORE,
        left_over=LEFT_OVER,
        granted=sum(shard.accounts for shard in policy.shards),
        role_arn=role_arn(settings.partition, "{account_id}", settings.member_role_name),
        actions=ASSUME_ACTIONS,
        denied=[action for action in DENIED_DATA_READS if settings.denies(action)],
        exceptions=sorted(settings.deny_data_reads_except) if settings.deny_data_reads else [],
        documents={name: _pretty(each.content) for name, each in settings.member_role_policies.items()},
        policies=[arn.replace("{partition}", settings.partition) for arn in settings.member_role_policy_arns],
        trust=_pretty(_trust(settings)),
        statement=_pretty(_statement(report)),
        data=_embedded(report.data.as_json() | {"evidence": evidence.as_json() if evidence else None}),
        cells=_embedded({"columns": COLUMNS, "escaped": escaped_cells(report.data)}),
    )


def _bar(counts: Counter[str]) -> list[tuple[str, float, float]]:
    """Return the start and width of each outcome's part of the bar; even one account among thousands is visible."""
    min_size = counts.total() * _MIN_BAR_SHARE
    sizes = {outcome: max(counts[outcome], min_size) for outcome in _OUTCOMES if counts[outcome]}
    parts, start = [], 0.0
    for outcome, size in sizes.items():
        width = _BAR_WIDTH * size / sum(sizes.values())
        parts.append((str(outcome), start, width))
        start += width
    return parts


def _reasons(accounts: Iterable[ReportedAccount]) -> list[tuple[Reason, int]]:
    """Return the number of accounts for each reason, sorted by title."""
    counts = Counter(account.reason for account in accounts if account.reason)
    return sorted(counts.items(), key=lambda counted: TITLE[counted[0]].casefold())


def _by_reason(accounts: Iterable[ReportedAccount], outcomes: set[Outcome]) -> list[tuple[str, list[ReportedAccount]]]:
    """Group the accounts with some outcomes by reason, the most frequent one first."""
    found: dict[str, list[ReportedAccount]] = {}
    for account in accounts:
        if account.outcome in outcomes:
            found.setdefault(account.reason or "", []).append(account)
    return sorted(found.items(), key=lambda group: (-len(group[1]), group[0]))


def _trust(settings: Settings) -> dict[str, Any]:
    """Return the trust policy without the external id, which readers of the report need not know."""
    hidden = replace(settings, external_id="(not shown)") if settings.external_id else settings
    return trust_document(hidden).content


def _statement(report: Report) -> dict[str, Any]:
    """Return a shard's document with a placeholder for its accounts."""
    frozen = any(shard.frozen for shard in report.source_policy.shards)
    scope = Scope.ORGANIZATION if report.grants_organization else Scope.ACCOUNTS
    content = document(report.settings, ShardContent(scope=scope, frozen=frozen), report.origin.organization_id).content
    if scope is Scope.ACCOUNTS:
        content["Statement"][0]["Condition"]["StringEquals"]["aws:ResourceAccount"] = ["(the shard's accounts)"]
    return content


def _embedded(content: dict[str, Any]) -> Markup:
    """Return JSON without characters that mean something in HTML."""
    return htmlsafe_json_dumps(content, separators=(",", ":"))


def _pretty(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _share(part: int, whole: int) -> str:
    """Return a percentage that is 100 only for all and 0 only for none."""
    if not whole or part in {0, whole}:
        return f"{100 if whole and part else 0}%"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f}%"


def _source_hash(inlined: Markup) -> str:
    """Return the hash by which the content security policy allows an inlined script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(inlined.encode()).digest()).decode()}'"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "day": lambda time: time[:10],
    "source_hash": _source_hash,
    "minute": lambda time: time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "printable": printable,
    "second": lambda time: time[:19].replace("T", " "),
    "sentence": lambda phrase: phrase[:1].upper() + phrase[1:],
    "number": lambda number: f"{number:,}",
    "share": _share,
}
