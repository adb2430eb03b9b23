"""The report as data: embedded in the page, downloaded from it, and read back from an earlier page."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from rolecall.errors import CommandError
from rolecall.files import read_text
from rolecall.listing import cell_of_spreadsheet
from rolecall.report_accounts import Branch, ReportedAccount
from rolecall.source_policy_state import SourcePolicyState

_FORMAT = 1
"""Raised if an earlier release can't read the data any more."""

_EMBEDDED = re.compile(r'<script type="application/json" id="data">([^<]*)</script>')
_NOT_SHOWN = frozenset({"stage", "partition", "management_account_id", "external_id"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where the report's data is from, when it was read, and by which principal."""

    organization_id: str
    region: str
    generated_at: datetime
    generated_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountData:
    """One account: texts, which are empty where a value is absent, and whether its access is in force.

    `ou` is the path of names to its organizational unit; both are empty if the account is not in the organization. `evidence`
    is the result of `rolecall prove`.
    """

    account_id: str
    name: str
    ou_id: str
    ou: str
    outcome: str
    reason: str
    access: bool
    role_arn: str
    since: str
    checked: str
    error: str
    evidence: str

    def cells(self) -> dict[str, str]:
        """Return the values of the columns of CSV."""
        return {name: str(value).lower() if isinstance(value, bool) else value for name, value in asdict(self).items()}


COLUMNS = tuple(field.name for field in fields(AccountData))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """The data of a report. The settings don't contain the external id."""

    organization_id: str
    management_account_id: str
    stage: str
    region: str
    generated_at: datetime
    generated_by: str
    settings: Mapping[str, str]
    accounts: tuple[AccountData, ...]

    def as_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"rolecall_report": _FORMAT, **asdict(self), "generated_at": self.generated_at.isoformat()}


def build_data(
    origin: Origin,
    settings: Settings,
    trees: Iterable[Branch],
    departed: Iterable[ReportedAccount],
    policy: SourcePolicyState,
    tested: Mapping[AccountId, str],
) -> ReportData:
    """Build the data of a report; `tested` has the results of `rolecall prove`."""
    listed = [found for tree in trees for found in _below(tree, (), tested)]
    return ReportData(
        organization_id=origin.organization_id,
        management_account_id=settings.management_account_id,
        stage=settings.stage,
        region=origin.region,
        generated_at=origin.generated_at,
        generated_by=origin.generated_by,
        settings={**_settings(settings), **_source_policy(policy)},
        accounts=(*listed, *(_account(each, None, (), tested) for each in departed)),
    )


def escaped_cells(data: ReportData) -> dict[str, dict[str, str]]:
    """Return the values of CSV that a spreadsheet would take for formulas, escaped, by account and column."""
    escaped = {
        account.account_id: {
            column: cell for column, value in account.cells().items() if (cell := cell_of_spreadsheet(value)) != value
        }
        for account in data.accounts
    }
    return {account_id: cells for account_id, cells in escaped.items() if cells}


def read_report_file(path: Path, settings: Settings, region: str) -> ReportData:
    """Return the data of an earlier report. Raise CommandError if the file is no report, or one of another stage."""
    found = _EMBEDDED.search(read_text(path))
    if found is None:
        raise CommandError(f"{path} is not a report: pass a page that rolecall report has written")
    try:
        content = json.loads(found[1])
        if content["rolecall_report"] > _FORMAT:
            raise CommandError(f"{path} was written by a later release: read it with that release of rolecall")
        earlier = _parse(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(f"the data in {path} is damaged: pass the page as rolecall report has written it") from None
    subject = (earlier.stage, earlier.region, earlier.management_account_id)
    check_same_stage(subject, settings, region, f"{path} is a report of", "pass an earlier report of this stage")
    return earlier


def contains_evidence(path: Path) -> bool:
    """Whether a file is a report with the results of `rolecall prove`."""
    found = _EMBEDDED.search(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if found is None:
        return False
    try:
        return any(each["evidence"] for each in json.loads(found[1])["accounts"])
    except (KeyError, TypeError, ValueError):
        return False


def check_same_stage(found: tuple[str, str, str], settings: Settings, region: str, statement: str, remedy: str) -> None:
    """Raise CommandError if stage, region and management account differ from those of a report."""
    expected = (settings.stage, region, settings.management_account_id)
    if found != expected:
        text = "stage {} in {} of account {}"
        raise CommandError(f"{statement} {text.format(*found)}, not of {text.format(*expected)}: {remedy}")


def parse_text(value: object) -> str:
    """Return a value that is a text. Raise TypeError for any other."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _below(branch: Branch, above: tuple[str, ...], tested: Mapping[AccountId, str]) -> Iterator[AccountData]:
    path = (*above, branch.unit.name)
    for account in branch.accounts:
        yield _account(account, branch.unit.id, path, tested)
    for each in branch.branches:
        yield from _below(each, path, tested)


def _account(
    account: ReportedAccount, ou_id: str | None, path: tuple[str, ...], tested: Mapping[AccountId, str]
) -> AccountData:
    return AccountData(
        account_id=account.account_id,
        name=account.name,
        ou_id=ou_id or "",
        ou=" / ".join(path),
        outcome=account.outcome,
        reason=account.reason or "",
        access=account.granted,
        role_arn=account.role_arn,
        since=account.since,
        checked=account.checked,
        error=account.error or "",
        evidence=tested.get(account.account_id, ""),
    )


def _settings(settings: Settings) -> dict[str, str]:
    """Return the settings by their parameters' names; of the external id only whether there is one."""
    shown = {
        "".join(part.capitalize() for part in field.name.split("_")): _setting(getattr(settings, field.name))
        for field in fields(settings)
        if field.name not in _NOT_SHOWN
    }
    principals = ", ".join(principal.arn for principal in settings.source_principals)
    del shown["SourcePrincipals"]
    return {"SourcePrincipalArns": principals, "ExternalId": "required" if settings.external_id else "", **shown}


def _setting(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case frozenset():
            return ", ".join(sorted(value))
        case tuple():
            return ", ".join(map(str, value))
        case Mapping():
            return ", ".join(f"{key}={each}" for key, each in value.items())
    return "" if value is None else str(value)


def _source_policy(policy: SourcePolicyState) -> dict[str, str]:
    """Return what publish has recorded of the source policy."""
    return {
        "Source policy shards": str(len(policy.shards)),
        "Freeze": "requested" if policy.frozen else "",
        "Uninstall": "requested" if policy.uninstalling else "",
    }


def _parse(content: Mapping[str, Any]) -> ReportData:
    texts = ("organization_id", "management_account_id", "stage", "region", "generated_by")
    return ReportData(
        **{name: parse_text(content[name]) for name in texts},
        generated_at=datetime.fromisoformat(content["generated_at"]),
        settings={name: parse_text(value) for name, value in content["settings"].items()},
        accounts=tuple(_parse_account(each) for each in content["accounts"]),
    )


def _parse_account(content: Mapping[str, Any]) -> AccountData:
    texts = {name: parse_text(content[name]) for name in COLUMNS if name != "access"}
    return AccountData(**texts, access=content["access"] is True)
