"""The report's data: embedded in the page, escaped for spreadsheets, and read back from an earlier page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib.accounts import Outcome
from rolecall.errors import CommandError
from rolecall.report import Report
from rolecall.report_data import COLUMNS, ReportData, contains_evidence, escaped_cells, read_report_file
from rolecall.report_page import render_report
from tests.unit.builders import settings
from tests.unit.reported import account, organization, report_of, row

_HOSTILE = "=cmd|'/C calc'!A0</script><script>alert(1)</script>\u2028"


def read_back(report: Report, directory: Path) -> ReportData:
    page = directory / "report.html"
    page.write_text(render_report(report))
    return read_report_file(page, report.settings, report.origin.region)


def test_data_of_the_page_is_read_back(tmp_path: Path) -> None:
    report = organization(140)

    found = read_back(report, tmp_path)

    assert found == report.data
    assert sorted(each.account_id for each in found.accounts) == sorted(each.account_id for each in report.accounts)


def test_page_with_results_of_prove_is_recognized(tmp_path: Path) -> None:
    page, report = tmp_path / "report.html", organization(3)
    assert not contains_evidence(page)
    for evidence, expected in (("", False), ("passed", True)):
        accounts = tuple(replace(each, evidence=evidence) for each in report.data.accounts)
        page.write_text(render_report(replace(report, data=replace(report.data, accounts=accounts))))
        assert contains_evidence(page) is expected
    page.write_text(page.read_text().replace('"accounts"', '"others"'))
    assert not contains_evidence(page)


def test_hostile_name_is_read_back_and_ends_no_script(tmp_path: Path) -> None:
    hostile = account(1, _HOSTILE)
    report = report_of([hostile], [row(hostile, Outcome.ENROLLED)])

    assert [each.name for each in read_back(report, tmp_path).accounts] == [_HOSTILE]

    assert (tmp_path / "report.html").read_text().count("</script>") == 3


def test_account_has_its_unit_and_its_role() -> None:
    member = next(each for each in organization(140).data.accounts if each.ou_id == "ou-ab12-33333333")

    assert member.ou == "Root / Workloads / Production"
    assert member.role_arn == f"arn:aws:iam::{member.account_id}:role/CrossAccountReadOnlyRole"
    assert member.access


def test_settings_contain_no_external_id() -> None:
    with_id = report_of([], [], settings(EXTERNAL_ID="auditors-secret")).data
    without = report_of([], [], settings()).data

    assert with_id.settings["ExternalId"] == "required"
    assert without.settings["ExternalId"] == ""
    assert "auditors-secret" not in json.dumps(with_id.as_json())


def test_settings_have_the_names_of_parameters() -> None:
    template = (Path(__file__).parents[2] / ".chalice" / "resources.yaml").read_text()
    parameters = set(re.findall(r"^  (\w+):$", template.partition("\nConditions:")[0], re.MULTILINE))

    named = {name for name in report_of([], []).data.settings if " " not in name}

    assert named - parameters == {"Freeze", "Uninstall"}


def test_only_formulas_are_escaped() -> None:
    hostile, harmless = account(1, "=1+1"), account(2, "payments")
    report = report_of([hostile, harmless], [row(hostile, Outcome.ENROLLED), row(harmless, Outcome.ENROLLED)])

    assert escaped_cells(report.data) == {hostile.id: {"name": "'=1+1"}}


def test_cells_have_every_column() -> None:
    cells = organization(2).data.accounts[0].cells()

    assert tuple(cells) == COLUMNS
    assert cells["access"] == "true"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            "<!doctype html><title>Budget</title>",
            r"page.html is not a report: pass a page that rolecall report has written",
        ),
        (
            '<script type="application/json" id="data">{}</script>',
            r"the data in .*page.html is damaged: pass the page as",
        ),
        (
            '<script type="application/json" id="data">[1</script>',
            r"the data in .*page.html is damaged: pass the page as",
        ),
        (
            '<script type="application/json" id="data">{"rolecall_report": 2}</script>',
            r"page.html was written by a later release: read it with that release of rolecall",
        ),
        (
            '<script type="application/json" id="data">{"rolecall_report": "new"}</script>',
            r"the data in .*page.html is damaged: pass the page as",
        ),
    ],
)
def test_file_that_is_no_report_is_refused(tmp_path: Path, content: str, error: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(content)

    with pytest.raises(CommandError, match=error):
        read_report_file(page, settings(), "us-east-1")


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(CommandError, match=r"reading .*page.html: No such file or directory"):
        read_report_file(page, settings(), "us-east-1")

    page.write_bytes(b"\xff\xfe")

    with pytest.raises(CommandError, match=r"reading .*page.html: it is not a text file in UTF-8"):
        read_report_file(page, settings(), "us-east-1")


@pytest.mark.parametrize("key", ["name", "access", "ou"])
def test_report_with_damaged_accounts_is_refused(tmp_path: Path, key: str) -> None:
    content = organization(2).data.as_json()
    content["accounts"] = [{**each, key: None} if key != "access" else "account" for each in content["accounts"]]
    page = tmp_path / "page.html"
    page.write_text(f'<script type="application/json" id="data">{json.dumps(content)}</script>')

    with pytest.raises(CommandError, match=r"the data in .*page.html is damaged"):
        read_report_file(page, settings(), "us-east-1")


def test_report_of_another_stage_is_refused(tmp_path: Path) -> None:
    report = organization(2)
    page = tmp_path / "page.html"
    page.write_text(render_report(report))

    with pytest.raises(CommandError) as refused:
        read_report_file(page, replace(report.settings, stage="audit"), "us-gov-west-1")

    account_id = report.settings.management_account_id
    assert str(refused.value) == (
        f"{page} is a report of stage prod in us-east-1 of account {account_id}, not of stage audit in us-gov-west-1 of account "
        f"{account_id}: pass an earlier report of this stage"
    )
