"""The report: its content, and its page, which escapes names and needs no external resources."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chalicelib.accounts import Outcome
from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.errors import Reason
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.console import printable
from rolecall.reasons import MEANING, REMEDY
from rolecall.report import Report
from rolecall.report_accounts import WAITING, Branch
from rolecall.report_page import render_report
from rolecall.source_policy_state import RESTORE, read_source_policy
from tests.unit.builders import EXTRA, settings
from tests.unit.ledger_rows import records, shard
from tests.unit.reported import GENERATED_AT, SANDBOXES, account, organization, report_of, row

_VOID = {"meta", "link", "br", "input", "rect"}
_HOSTILE = "<script>alert(1)</script>\"'&amp;\n\U0001f680 </ul><img src=x onerror=alert(2)>"
SINCE = "2026-01-01T00:00:00+00:00"
PRINCIPALS = frozenset({"arn:aws:iam::111122223333:role/Reader"})


class Page(HTMLParser):
    """Parses the page; asserts that elements are closed in order and that none has a handler or a style."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.in_row = False
        self.policy = ""
        self.text: list[str] = []
        self.feed(render_report(report))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.scripts += [attributes.get("type", "")] if tag == "script" else []
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag == "li" and attributes.get("class", "").startswith("a "):
            self.rows.append(attributes | {"text": ""})
            self.in_row = True
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.in_row = self.in_row and tag != "li"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)
        if self.in_row and self.open[-1:] == ["bdi"]:
            self.rows[-1]["text"] += data

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def large() -> Report:
    return organization(300)


@pytest.fixture(scope="module")
def page(large: Report) -> Page:
    return Page(large)


def test_every_account_has_one_row(large: Report, page: Page) -> None:
    assert sorted((each["data-o"], each.get("data-r", "")) for each in page.rows) == sorted(
        (each.outcome, each.reason or "") for each in large.accounts
    )
    assert {each["data-o"] for each in page.rows} == {*Outcome, WAITING}


def test_page_needs_no_external_resources(page: Page) -> None:
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.scripts == ["application/json", "application/json", ""]


def test_content_security_policy_allows_only_the_inlined_script_and_style(page: Page) -> None:
    inlined = r"'sha256-[A-Za-z0-9+/]{43}='"
    assert re.fullmatch(
        rf"default-src 'none'; img-src data:; style-src {inlined}; script-src {inlined}; base-uri 'none'; form-action 'none'",
        page.policy,
    )


def test_names_and_errors_are_escaped() -> None:
    hostile = account(1, _HOSTILE)
    failure = row(hostile, Outcome.FAILED, Reason.REJECTED, error=f"AWS: {_HOSTILE}", failed_at=SINCE)
    page = Page(report_of([hostile], [failure]))
    assert (len(page.scripts), page.tags.count("img")) == (3, 0)
    assert [each["text"] for each in page.rows] == [printable(_HOSTILE)]
    assert " ".join(f"AWS: {printable(_HOSTILE)}".split()) in page.words


def test_failure_has_its_meaning_and_remedy() -> None:
    failing = account(1, "payments")
    failure = row(failing, Outcome.FAILED, Reason.SCP_DENIED, error="p-0a1b denies", attempts=2, in_force_since=SINCE)
    words = Page(report_of([failing], [failure])).words
    assert "0 of 1 eligible account is enrolled" in words
    assert MEANING[Reason.SCP_DENIED] in words
    assert f"What to do {REMEDY[Reason.SCP_DENIED]}" in words
    assert "2 attempts, still has access p-0a1b denies" in words
    assert "1 Denied by a service control policy scp_denied show accounts" in words
    assert "payments failed denied by a service control policy still has access" in words


def test_external_id_is_not_shown() -> None:
    report = report_of([], [], settings(EXTERNAL_ID="auditors-secret"))
    assert "auditors-secret" not in render_report(report)
    assert "External id required (not shown)" in Page(report).words


def test_page_shows_the_operators_documents_and_exceptions() -> None:
    given = settings(MEMBER_ROLE_POLICIES=f'{{"Extra":{EXTRA}}}', DENY_DATA_READS_EXCEPT="s3:GetObject")
    words = Page(report_of([], [], given)).words
    assert "policy/ReadOnlyAccess Extra (inline)" in words
    assert f"{len(DENIED_DATA_READS) - 1} actions not denied: s3:GetObject" in words
    assert "Inline policy Extra of every member role" in words
    assert '"Action": "macie2:GetMacieSession"' in words


def test_page_shows_who_can_assume_what() -> None:
    given = settings(
        "aws-cn",
        SOURCE_PRINCIPAL_ARNS="arn:aws-cn:iam::111122223333:root",
        DENY_DATA_READS="false",
        MEMBER_ROLE_MAX_SESSION="7200",
        SOURCE_POLICY_SCOPE="organization",
        PERMISSIONS_BOUNDARY_ARN="arn:aws-cn:iam::{account_id}:policy/Bound",
    )
    words = Page(report_of([], [], given)).words
    for expected in (
        "No account is eligible",
        "arn:aws-cn:iam::111122223333:root any principal that this account delegates to",
        "in every account of the organization except the excluded ones",
        "External id not required",
        "at most 7,200 seconds",
        "arn:aws-cn:iam::aws:policy/ReadOnlyAccess",
        "as arn:aws-cn:iam::{account_id}:role/CrossAccountReadOnlyRole , by sts:AssumeRole",
        "Reads of data and secrets not denied explicitly",
        "arn:aws-cn:iam::{account_id}:policy/Bound",
        "None yet: no account is granted access.",
    ):
        assert expected in words


def with_records(found: Records) -> str:
    """Return the words of a report with other records."""
    return Page(replace(report_of([], []), source_policy=read_source_policy(found, settings()))).words


def test_shards_show_their_fill_and_state(large: Report) -> None:
    first = shard(*(each.account_id for each in large.accounts[:77]), name="P", frozen=True)
    second = replace(shard(name="P-2", attached=PRINCIPALS), verified_at=GENERATED_AT)
    third = replace(shard(name="P-3"), error=Problem(Reason.REJECTED, "denied <b>"))
    words = with_records(records(first, second, third, ShardRecord(name="P-4")))
    for expected in (
        f"In account 111122223333 : 4 shards grant 77 accounts; the capacity of a shard is {capacity(settings())}.",
        "P 77 accounts 20.2%, up to date in IAM, frozen , verified: never not attached yet",
        "P-2 0 accounts 0%, up to date in IAM, verified: 2026-11-25 09:30 UTC attached to arn:aws:iam::111122223333:role/Reader",
        "P-3 0 accounts 0%, writing it failed : denied <b>, verified: never not attached yet",
        "P-4 0 accounts 0%, not completely written , verified: never not attached yet",
    ):
        assert expected in words


def test_page_shows_the_state_of_publishing(page: Page) -> None:
    assert "Publishing not blocked Shards that fit 10 Source principals read 2026-11-25 08:30 UTC" in page.words
    assert "Checked against IAM 2026-11-25 09:00 UTC All shards verified 2026-11-25 04:30 UTC" in page.words
    assert "Pending accounts 2, the oldest since 20" in page.words
    assert "is unknown: publish has not run yet" in with_records(Records())


@pytest.mark.parametrize(
    ("found", "banner"),
    [
        (
            records(
                replace(shard(frozen=True, attached=PRINCIPALS), denied_principals=PRINCIPALS),
                control=Control(frozen=True),
            ),
            "Frozen. The source policy denies every new session",
        ),
        (records(shard(), control=Control(frozen=True)), "Freeze not in force. A freeze was requested"),
        (
            records(shard(frozen=True), control=Control(frozen=False)),
            "Unfreeze not in force. An unfreeze was requested",
        ),
        (records(control=Control(uninstalling=True)), "Uninstalling. The stage is being uninstalled"),
        (Records(control=Control(uninstalled=True)), "Uninstalling. The stage is uninstalled."),
        (
            records(blocked=Problem(Reason.QUOTA, "the source policy is full")),
            f"New accounts get no access: quota reached. the source policy is full. {REMEDY[Reason.QUOTA]}",
        ),
        (records(shards=1), f"Records are lost: CrossAccountReadOnlyAccess. To restore them, {RESTORE}"),
    ],
)
def test_banner_shows_what_affects_every_account(found: Records, banner: str) -> None:
    assert banner in with_records(found)


def test_pending_account_has_the_reason_that_publishing_is_blocked() -> None:
    waiting, failing = account(1, "waiting"), account(2, "failing")
    rows = [
        row(waiting, Outcome.ENROLLED, in_force_since=None),
        row(failing, Outcome.FAILED, Reason.QUOTA, failed_at=SINCE),
    ]
    blocked = Page(report_of([waiting, failing], rows, blocked=Problem(Reason.QUOTA, "full")))
    assert [(each["text"], each["data-o"], each["data-r"]) for each in blocked.rows] == [
        ("failing", "failed", "quota"),
        ("waiting", "pending", "quota"),
    ]
    assert blocked.ids.count("reason-quota") == 1
    pending = Page(report_of([waiting], rows[:1]))
    assert f"Source policy not updated yet 1 account {MEANING[Reason.SOURCE_POLICY_PENDING]}" in pending.words


def test_tree_counts_the_accounts_in_and_below_each_unit(large: Report) -> None:
    def shape(branch: Branch) -> tuple[str, int, list[object]]:
        return branch.unit.name, branch.counts.total(), [shape(each) for each in branch.branches]

    workloads: object = ("Workloads", 179, [("Production", 119, []), ("Staging", 60, [])])
    assert [shape(each) for each in large.trees] == [
        ("Root", 300, [("Sandboxes", 60, []), ("Security", 60, []), workloads])
    ]


def test_outcome_follows_from_the_row_and_the_settings() -> None:
    closing = account(4, "retired but granted", state="PENDING_CLOSURE")
    eligible = account(5, "eligible again")
    accounts = [
        account(1, "new"),
        account(2, "closing", state="PENDING_CLOSURE"),
        account(3, "excluded", (SANDBOXES,)),
        closing,
        eligible,
    ]
    rows = [
        row(closing, Outcome.RETIRED, Reason.PENDING_CLOSURE, in_force_since=SINCE),
        row(eligible, Outcome.RETIRED, Reason.SUSPENDED),
    ]
    report = report_of(accounts, rows, settings(EXCLUDE_OU_IDS=SANDBOXES))
    assert {each.name: (each.outcome, each.reason, each.still_granted) for each in report.accounts} == {
        "new": (WAITING, None, None),
        "closing": (Outcome.SKIPPED, Reason.PENDING_CLOSURE, None),
        "excluded": (Outcome.SKIPPED, Reason.EXCLUDED, None),
        "retired but granted": (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING, Reason.PENDING_CLOSURE),
        "eligible again": (WAITING, None, None),
    }


def test_access_of_ineligible_accounts_is_shown() -> None:
    closing, departed, member = account(1, "closing", state="PENDING_CLOSURE"), account(2, "left"), account(3, "member")
    rows = [row(each, Outcome.ENROLLED) for each in (closing, departed, member)]
    words = Page(report_of([closing, member], rows)).words
    assert "1 of 1 eligible account is enrolled" in words
    assert "still grants 2 accounts that should have no access" in words
    assert f"{closing.id} (being closed), {departed.id} (not in the organization)" in words
    assert "closing pending source policy not updated yet should not have access: being closed" in words


def test_accounts_come_before_policies_in_full(page: Page) -> None:
    order = [each for each in page.ids if each in {"failures", "access", "policy", "accounts", "documents", "denied"}]
    assert order == ["failures", "access", "policy", "accounts", "documents", "denied"]


def test_role_arn_is_shown_for_accounts_that_have_the_role() -> None:
    enrolled, waiting = account(1, "enrolled"), account(2, "waiting")
    words = Page(report_of([enrolled, waiting], [row(enrolled, Outcome.ENROLLED)])).words
    assert f"arn:aws:iam::{enrolled.id}:role/CrossAccountReadOnlyRole" in words
    assert f"arn:aws:iam::{waiting.id}:role/CrossAccountReadOnlyRole" not in words


def test_sections_without_files_are_absent(page: Page) -> None:
    assert {"evidence", "denials", "changes"}.isdisjoint(page.ids)
    assert "It contains no evidence: rolecall prove tests it" in page.words
