"""The content of the report: the status of every account and who can assume what, for people who don't operate Rolecall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from chalicelib.accounts import Account, LedgerRow, why_ineligible
from chalicelib.errors import Reason
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import Records
from rolecall.aws_errors import translate_errors
from rolecall.organization_units import Unit
from rolecall.report_accounts import Branch, ReportedAccount, build_trees, departed_account, listed_account
from rolecall.report_changes import Changes, compare
from rolecall.report_data import Origin, ReportData, build_data, read_report_file
from rolecall.report_evidence import ReportedEvidence, read_evidence_file
from rolecall.source_policy_state import SourcePolicyState, blocked_reason, read_source_policy
from rolecall.stage import Stage
from rolecall.status import Coverage, count_coverage


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The content of the report. The settings contain the external id, which the page doesn't show.

    `accounts` includes `departed`, the accounts that are no longer in the organization. `data` is what the page embeds.
    """

    origin: Origin
    settings: Settings
    coverage: Coverage
    trees: tuple[Branch, ...]
    accounts: tuple[ReportedAccount, ...]
    departed: tuple[ReportedAccount, ...]
    source_policy: SourcePolicyState
    data: ReportData
    evidence: ReportedEvidence | None = None
    changes: Changes | None = None

    @property
    def grants_organization(self) -> bool:
        """Whether the source policy grants the whole organization, or will once its first shard is written."""
        policy = self.source_policy
        return (policy.scope if policy.shards else policy.scope_asked_for) is Scope.ORGANIZATION


def read_report(stage: Stage, now: datetime, *, evidence: Path | None = None, since: Path | None = None) -> Report:
    """Read the content of the report from the stage and its organization, and from the files of evidence and an earlier report."""
    tested = read_evidence_file(evidence, stage.settings, stage.region) if evidence else None
    earlier = read_report_file(since, stage.settings, stage.region) if since else None
    organizations = stage.client("organizations")
    with translate_errors("describing the organization"):
        organization_id = organizations.describe_organization()["Organization"]["Id"]
    with translate_errors("reading the principal of the credentials"):
        generated_by = stage.client("sts").get_caller_identity()["Arn"]
    origin = Origin(organization_id=organization_id, region=stage.region, generated_at=now, generated_by=generated_by)
    units, accounts, records = stage.units(), stage.accounts(), stage.records()
    report = compose_report(origin, stage.settings, units, accounts, stage.rows(), records, tested)
    return replace(report, changes=compare(earlier, report.data)) if earlier else report


def compose_report(
    origin: Origin,
    settings: Settings,
    units: Mapping[str, Unit],
    accounts: Sequence[Account],
    rows: Sequence[LedgerRow],
    records: Records,
    evidence: ReportedEvidence | None = None,
) -> Report:
    """Build the content of the report from accounts, their rows and the records of the source policy."""
    known = {row.account_id: row for row in rows}
    policy, blocked = read_source_policy(records, settings), blocked_reason(records)

    def why_not(account: Account | None, row: LedgerRow | None) -> Reason | None:
        return why_ineligible(account, row, settings, uninstalling=policy.uninstalling)

    reported = {}
    for account in accounts:
        row = known.get(account.id)
        reported[account.id] = listed_account(account, row, why_not(account, row), settings, blocked)
    departed = tuple(departed_account(row, why_not(None, row)) for row in rows if row.account_id not in reported)
    trees, tested = build_trees(units, accounts, reported), evidence.results if evidence else {}
    return Report(
        origin=origin,
        settings=settings,
        coverage=count_coverage(accounts, rows, records, settings),
        trees=trees,
        accounts=(*reported.values(), *departed),
        departed=departed,
        source_policy=policy,
        data=build_data(origin, settings, trees, departed, policy, tested),
        evidence=evidence,
    )
