"""The evidence in a report: read from the output of `rolecall prove --json`, and shown with every denial."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rolecall.errors import CommandError
from rolecall.prove.evidence_page import evidence_json
from rolecall.report import Report
from rolecall.report_evidence import ReportedEvidence, read_evidence_file
from tests.unit.reported import GENERATED_AT, audited_organization, evidence_of, organization
from tests.unit.test_report import Page

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def report() -> Report:
    return organization(40)


def read(report: Report, directory: Path, change: Change | None = None) -> ReportedEvidence:
    """Return the evidence of the report, changed in its file."""
    content = json.loads(json.dumps(evidence_json(evidence_of(report))))
    if change is not None:
        change(content)
    file = directory / "prove.json"
    file.write_text(json.dumps(content))
    return read_evidence_file(file, report.settings, report.origin.region)


def page_with(report: Report, evidence: ReportedEvidence) -> Page:
    return Page(replace(report, evidence=evidence))


def test_every_denial_is_kept_once(report: Report, tmp_path: Path) -> None:
    evidence = read(report, tmp_path)

    enrolled = {each.account_id for each in report.accounts if each.outcome == "enrolled"}
    denied = {each.claim: [call.account_id for call in each.calls] for each in evidence.denials}
    assert set(denied) == {"data denied", "external id required", "not assumable"}
    assert set(denied["data denied"]) == set(denied["external id required"]) == enrolled
    assert enrolled.isdisjoint(denied["not assumable"])
    assert evidence.unexpected == []
    assert all("{account_id}" in each.message for each in evidence.denials)


def test_page_shows_when_by_what_principal_and_how_many(report: Report, tmp_path: Path) -> None:
    page = page_with(report, read(report, tmp_path))

    counts = [each.outcome for each in report.accounts].count("enrolled")
    assert "Evidence passed , 2026-11-25 07:30 UTC" in page.words
    assert f", {counts} of the {counts} enrolled" in page.words
    assert "Tested by arn:aws:sts::111122223333:assumed-role/CloudInventory/rolecall-prove" in page.words
    assert f"passed {counts} of {counts} enrolled accounts can be read (iam:GetAccountSummary)" in page.words
    assert f"enrolled accounts deny reads of data (ssm:GetParameter), {counts} by an explicit deny" in page.words
    assert "It contains no evidence" not in page.words
    assert page.ids.index("evidence") < page.ids.index("accounts") < page.ids.index("denials")


def test_page_shows_each_denial_in_aws_words(report: Report, tmp_path: Path) -> None:
    evidence = read(report, tmp_path)

    words = page_with(report, evidence).words

    for same in evidence.denials:
        assert f"{same.code}: {same.message}" in words
        for call in same.calls:
            assert f"{call.account_id} {call.name} 2026-11-25 07:30:00 {call.request_id}" in words


def test_access_that_should_be_denied_is_shown_with_its_account(report: Report, tmp_path: Path) -> None:
    def allow(content: Any) -> None:
        outside = content["accounts"][-1]
        outside["holds"] = outside["calls"][0]["holds"] = False
        outside["calls"][0] |= {"answer": "allowed", "code": None, "message": None, "request_id": None}
        content["result"] = "failed"

    evidence = read(report, tmp_path, allow)

    (unexpected,) = evidence.unexpected
    page = page_with(report, evidence)
    outside = unexpected.calls[0].account_id
    assert (unexpected.claim, unexpected.holds, len(unexpected.calls)) == ("not assumable", False, 1)
    assert evidence.results[outside] == "failed"  # type: ignore[index]
    assert "role/CrossAccountReadOnlyRole should have been denied and was allowed 1 call" in page.words
    assert page.words.count("evidence failed") == 1
    assert "Evidence failed , 2026-11-25 07:30 UTC" in page.words


def test_unclear_answer_is_shown_as_unknown(report: Report, tmp_path: Path) -> None:
    def lose(content: Any) -> None:
        first = content["accounts"][0]
        first["holds"] = first["calls"][1]["holds"] = None
        first["calls"][1] |= {"answer": "unclear", "code": "RequestTimeout", "message": "no answer"}
        content["claims"][1] |= {"holds": None, "passed": 0, "unknown": 1}

    page = page_with(report, read(report, tmp_path, lose))

    assert "should have been allowed and was unclear RequestTimeout: no answer 1 call" in page.words
    assert "; 1 unknown" in page.words


def test_settings_that_changed_since_the_test_are_named(report: Report, tmp_path: Path) -> None:
    def other_settings(content: Any) -> None:
        content |= {
            "frozen": True,
            "external_id_required": False,
            "data_reads_denied": False,
            "data_reads_denied_except": ["s3:GetObject"],
            "member_role_name": "Old",
        }

    words = page_with(report, read(report, tmp_path, other_settings)).words

    assert "Changed since: MemberRoleName, ExternalId, DenyDataReads, DenyDataReadsExcept." in words
    assert "Frozen at the time: the source policy denied every new session." in words


def test_hostile_names_and_messages_are_escaped(report: Report, tmp_path: Path) -> None:
    def script(content: Any) -> None:
        for each in content["accounts"]:
            each["name"] = "</ul><script>alert(1)</script>"
            each["calls"][0] |= {"message": "<img src=x onerror=alert(1)>", "action": "<b>", "request_id": "<i>"}
        content["result"] = content["source_principal"]["arn"] = content["claims"][0]["text"] = "<script>"

    page = page_with(report, read(report, tmp_path, script))

    assert (len(page.scripts), page.tags.count("img")) == (3, 0)


def test_data_has_the_result_of_each_account_and_every_answer(tmp_path: Path) -> None:
    report = audited_organization(40, tmp_path)

    assert report.evidence is not None
    assert {each.evidence for each in report.data.accounts} == {"passed", ""}
    assert len(report.evidence.as_json()["answers"]) == 3
    assert (
        json.loads(json.dumps(report.evidence.as_json()))["started"] == (GENERATED_AT - timedelta(hours=2)).isoformat()
    )


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("stage", "audit", "stage audit in us-east-1 of account 999999999999"),
        ("region", "us-gov-west-1", "stage prod in us-gov-west-1 of account 999999999999"),
        ("management_account_id", "111111111111", "stage prod in us-east-1 of account 111111111111"),
    ],
)
def test_evidence_of_another_stage_is_refused(report: Report, tmp_path: Path, key: str, value: str, found: str) -> None:
    with pytest.raises(CommandError) as refused:
        read(report, tmp_path, lambda content: content.update({key: value}))

    assert str(refused.value) == (
        f"{tmp_path}/prove.json is evidence of {found}, not of stage prod in us-east-1 of account 999999999999: run rolecall prove "
        "--json for this stage"
    )


@pytest.mark.parametrize("text", ["", "✔ passed", "[]", "{}", '{"stage": "prod"}', "null"])
def test_file_that_is_no_evidence_is_refused(report: Report, tmp_path: Path, text: str) -> None:
    file = tmp_path / "prove.json"
    file.write_text(text)

    with pytest.raises(CommandError, match=r"prove.json is not evidence: pass the output of rolecall prove --json"):
        read_evidence_file(file, report.settings, report.origin.region)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(started="yesterday"),
        lambda content: content["accounts"][0].update(holds="yes"),
        lambda content: content["accounts"][0]["calls"][0].pop("answer"),
        lambda content: content["accounts"][0].update(name=7),
        lambda content: content["claims"][0].update(passed=None),
    ],
)
def test_damaged_evidence_is_refused(report: Report, tmp_path: Path, damage: Change) -> None:
    with pytest.raises(CommandError, match="is not evidence"):
        read(report, tmp_path, damage)
