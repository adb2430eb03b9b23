"""What changed between two reports, and its section of the page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolecall.report_changes import compare
from rolecall.report_data import AccountData, ReportData
from tests.unit.reported import audited_organization, organization, report_of
from tests.unit.test_report import Page

MEMBER = AccountData(
    account_id="444455556666",
    name="payments",
    ou_id="ou-ab12-11111111",
    ou="Root / Security",
    outcome="enrolled",
    reason="",
    access=True,
    role_arn="",
    since="",
    checked="",
    error="",
    evidence="",
)


@pytest.fixture(scope="module")
def empty() -> ReportData:
    return report_of([], []).data


def kinds(empty: ReportData, then: AccountData | None, now: AccountData | None) -> dict[str, tuple[str, str]]:
    """Return the changes of one account by their kind."""
    earlier, current = (replace(empty, accounts=(each,) if each else ()) for each in (then, now))
    found = compare(earlier, current).kinds
    assert all(len(changes) == 1 for _, changes in found)
    return {kind: (changes[0].before, changes[0].now) for kind, changes in found}


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"access": False, "outcome": "pending"}, {}, {"access granted": ("pending", "enrolled")}),
        (
            {},
            {"access": False, "outcome": "retired", "reason": "closed"},
            {"access revoked": ("enrolled", "retired: closed")},
        ),
        ({}, {"outcome": "failed", "reason": "quota"}, {"now failing": ("enrolled", "failed: quota reached")}),
        ({"outcome": "failed"}, {}, {"no longer failing": ("failed", "enrolled")}),
        (
            {"outcome": "failed", "reason": "quota"},
            {"outcome": "failed", "reason": "a_later_reason"},
            {"other outcome or reason": ("failed: quota reached", "failed: a_later_reason")},
        ),
        ({"name": "billing"}, {}, {"renamed": ("billing", "payments")}),
        (
            {"ou_id": "ou-ab12-22222222", "ou": "Root / Old"},
            {},
            {"moved to another unit": ("Root / Old", "Root / Security")},
        ),
        ({"ou": "Root / Safety"}, {"since": "2026-01-01", "checked": "2026-01-02", "error": "e"}, {}),
        (
            {},
            {"ou_id": "", "ou": "", "access": False, "outcome": "retired", "reason": "departed"},
            {
                "access revoked": ("enrolled", "retired: not in the organization"),
                "left the organization": ("Root / Security", ""),
            },
        ),
    ],
)
def test_change_of_an_account_has_its_kind(
    empty: ReportData, then: dict[str, Any], now: dict[str, Any], expected: dict[str, tuple[str, str]]
) -> None:
    assert kinds(empty, replace(MEMBER, **then), replace(MEMBER, **now)) == expected


def test_new_account_joined_and_was_granted(empty: ReportData) -> None:
    assert kinds(empty, None, MEMBER) == {
        "access granted": ("not in the report", "enrolled"),
        "joined the organization": ("", "Root / Security"),
    }


def test_account_without_row_that_left_is_found(empty: ReportData) -> None:
    gone = replace(MEMBER, outcome="waiting", access=False)
    assert kinds(empty, gone, None) == {"left the organization": ("Root / Security", "")}


def test_changed_settings_are_found_and_unknown_ones_ignored(empty: ReportData) -> None:
    later = replace(empty, settings={**empty.settings, "DenyDataReads": "false", "Freeze": "requested", "New": "x"})

    found = [(each.name, each.before, each.now) for each in compare(empty, later).settings]

    assert found == [("DenyDataReads", "true", "false"), ("Freeze", "", "requested")]


def test_page_shows_the_changes(tmp_path: Path) -> None:
    page = Page(audited_organization(140, tmp_path))

    for expected in (
        "Changes since 2026-08-27 09:30 UTC",
        "MemberRoleMaxSession 7200 → 3600",
        "Access granted 4 accounts",
        "retired: retired by an operator → enrolled",
        "No longer failing 1 account",
        "Renamed 1 account",
        "before the rename → ",
        "Moved to another unit 1 account",
        "Root / Sandboxes → Root / Security",
    ):
        assert expected in page.words
    assert page.ids.index("failures") < page.ids.index("changes") < page.ids.index("access")


def test_page_without_changes_shows_that() -> None:
    report = organization(40)
    page = Page(replace(report, changes=compare(report.data, report.data)))
    assert "generated. Nothing has changed." in page.words


def test_hostile_names_of_the_earlier_report_are_escaped() -> None:
    report = organization(2)
    hostile = tuple(replace(each, name="<script>", ou_id="x", ou="<img>") for each in report.data.accounts)
    earlier = replace(report.data, generated_by="<script>", accounts=hostile)
    page = Page(replace(report, changes=compare(earlier, report.data)))
    assert (len(page.scripts), page.tags.count("img")) == (3, 0)
