"""The report: one page with the status of every account and who can assume what, for people who don't run Rolecall."""

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chalicelib.accounts import Account, LedgerRow, Outcome, why_ineligible
from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.member_role import ASSUME_ACTIONS, trust_document
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import Records, ShardContent
from rolecall import __version__
from rolecall.reasons import MEANING, REMEDY
from rolecall.source_policy import RESTORE, SourcePolicyState, blocked_reason, read_source_policy
from rolecall.stage import Stage, Unit, told
from rolecall.standings import WAITING, Branch, Standing, gone, standing_of, trees
from rolecall.status import Coverage, cover

_OUTCOMES = (Outcome.ENROLLED, Outcome.FAILED, Outcome.PENDING, WAITING, Outcome.SKIPPED, Outcome.RETIRED)
_THINNEST = 0.004  # of the bar
_FEW_ACCOUNTS = 500  # More, and the units that hold many start closed: nobody reads thousands of rows from the top.
_FEW_IN_A_UNIT = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Of what the page tells, when, and by whose credentials."""

    organization_id: str
    region: str
    generated_at: datetime
    generated_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the page tells; it holds the settings with their external id, which the page doesn't show.

    `standings` are all accounts', and `gone` those of them that the organization doesn't list any more.
    """

    origin: Origin
    settings: Settings
    coverage: Coverage
    trees: tuple[Branch, ...]
    standings: tuple[Standing, ...]
    gone: tuple[Standing, ...]
    source_policy: SourcePolicyState


def gather(stage: Stage, now: datetime) -> Report:
    """Read everything that the page tells from the stage and its organization."""
    with told("describing the organization"):
        organization_id = stage.client("organizations").describe_organization()["Organization"]["Id"]
    with told("asking whose credentials these are"):
        generated_by = stage.client("sts").get_caller_identity()["Arn"]
    origin = Origin(organization_id=organization_id, region=stage.region, generated_at=now, generated_by=generated_by)
    units, accounts, records = stage.units(), stage.accounts(), stage.records()
    return compose(origin, stage.settings, units, accounts, stage.rows(), records)


def compose(
    origin: Origin,
    settings: Settings,
    units: Mapping[str, Unit],
    accounts: Sequence[Account],
    rows: Sequence[LedgerRow],
    records: Records,
) -> Report:
    """Put together what the page tells of accounts, their rows and the source policy."""
    known = {row.account_id: row for row in rows}
    policy, blocked = read_source_policy(records, settings), blocked_reason(records)
    standings = {}
    for account in accounts:
        row = known.get(account.id)
        ineligible = why_ineligible(account, row, settings, uninstalling=policy.uninstalling)
        standings[account.id] = standing_of(account, row, ineligible, settings, blocked)
    return Report(
        origin=origin,
        settings=settings,
        coverage=cover(accounts, rows, records, settings),
        trees=trees(units, accounts, standings),
        standings=(*standings.values(), *gone(rows, accounts)),
        gone=gone(rows, accounts),
        source_policy=policy,
    )


def report(data: Report) -> str:
    """Write the page: HTML that needs nothing beside it, and says so to the browser."""
    settings, policy = data.settings, data.source_policy
    counts = Counter(standing.outcome for standing in data.standings)
    return _ENVIRONMENT.get_template("report.html").render(
        data=data,
        origin=data.origin,
        settings=settings,
        coverage=data.coverage,
        policy=policy,
        shards=policy.shards,
        version=__version__,
        counts=counts,
        bar=_bar(counts),
        large=len(data.standings) > _FEW_ACCOUNTS,
        few=_FEW_IN_A_UNIT,
        outcomes=_OUTCOMES,
        reasons=Counter(standing.reason for standing in data.standings if standing.reason),
        failures=_by_reason(data.standings, {Outcome.FAILED}),
        pending=_by_reason(data.standings, {Outcome.PENDING}),
        left_out=_by_reason(data.standings, {Outcome.SKIPPED, Outcome.RETIRED}),
        still_granted=[standing for standing in data.standings if standing.still_granted],
        meaning=MEANING,
        remedy=REMEDY,
        restore=RESTORE,
        named=sum(shard.accounts for shard in policy.shards),
        whole=_is_whole(data),
        actions=ASSUME_ACTIONS,
        denied=DENIED_DATA_READS,
        policies=[arn.replace("{partition}", settings.partition) for arn in settings.member_role_policy_arns],
        trust=_pretty(_trust(settings)),
        statement=_pretty(_statement(data)),
    )


def _bar(counts: Counter[str]) -> list[tuple[str, float, float]]:
    """Divide a bar of 1,000 among the outcomes, each with its start and width; one account is still seen among thousands."""
    held = {outcome: max(counts[outcome], counts.total() * _THINNEST) for outcome in _OUTCOMES if counts[outcome]}
    drawn, start = [], 0.0
    for outcome, count in held.items():
        width = 1000 * count / sum(held.values())
        drawn.append((str(outcome), start, width))
        start += width
    return drawn


def _by_reason(standings: tuple[Standing, ...], outcomes: set[Outcome]) -> list[tuple[str, list[Standing]]]:
    """Group accounts by reason, the most frequent first."""
    found: dict[str, list[Standing]] = {}
    for standing in standings:
        if standing.outcome in outcomes:
            found.setdefault(standing.reason or "", []).append(standing)
    return sorted(found.items(), key=lambda group: (-len(group[1]), group[0]))


def _trust(settings: Settings) -> dict[str, Any]:
    """Show the trust with the external id left out: who is given the page need not know it."""
    hidden = replace(settings, external_id="(not shown)") if settings.external_id else settings
    return trust_document(hidden).content


def _is_whole(data: Report) -> bool:
    """Whether the source policy grants the whole organization; without a shard, whether it is to."""
    policy = data.source_policy
    return (policy.scope if policy.shards else policy.scope_asked_for) is Scope.ORGANIZATION


def _statement(data: Report) -> dict[str, Any]:
    """Return a shard's document, with words in place of its accounts."""
    frozen = any(shard.frozen for shard in data.source_policy.shards)
    first = ShardContent(scope=Scope.ORGANIZATION if _is_whole(data) else Scope.ACCOUNTS, frozen=frozen)
    content = document(data.settings, first, data.origin.organization_id).content
    if not _is_whole(data):
        content["Statement"][0]["Condition"]["StringEquals"]["aws:ResourceAccount"] = ["(the shard's accounts)"]
    return content


def _pretty(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _day(moment: str) -> str:
    return moment[:10]


def _share(part: int, whole: int) -> str:
    """Write a share so that it is 100 % only if it is all, and 0 % only if it is none."""
    if not whole or part in {0, whole}:
        return f"{100 if whole and part else 0} %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"


def _source_hash(inlined: Markup) -> str:
    """Name an inlined script or style for the page's content security policy, which allows no other."""
    return f"'sha256-{b64encode(hashlib.sha256(inlined.encode()).digest()).decode()}'"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "day": _day,
    "source_hash": _source_hash,
    "moment": lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "number": lambda number: f"{number:,}",
    "share": _share,
}
