"""The report tells what is so, escapes whatever accounts are called, and needs nothing beside itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chalicelib.accounts import Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.reasons import MEANING, REMEDY
from rolecall.report import Report, report
from rolecall.source_policy import RESTORE, read_source_policy
from rolecall.standings import WAITING, Branch
from tests.unit.builders import settings
from tests.unit.ledger_rows import records, shard
from tests.unit.reported import MOMENT, account, organization, row, told_of

_VOID = {"meta", "link", "br", "input", "rect"}
_HOSTILE = "<script>alert(1)</script>\"'&amp;\n\U0001f680 </ul><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """What a browser sees of the page: elements that are closed as they were opened, their text, and what is in the way."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.in_row = False
        self.policy = ""
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        assert not [name for name in told if name.startswith("on") or name == "style"]
        self.tags.append(tag)
        self.ids += [told["id"]] if "id" in told else []
        self.links += [told[name] for name in ("href", "src") if name in told]
        if tag == "li" and told.get("class", "").startswith("a "):
            self.rows.append(told | {"text": ""})
            self.in_row = True
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policy = told["content"]
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


def test_every_account_has_one_row_with_its_outcome_and_reason(large: Report) -> None:
    rows = Page(report(large)).rows
    told = large.standings
    assert sorted((each["data-o"], each.get("data-r", "")) for each in rows) == sorted(
        (each.outcome, each.reason or "") for each in told
    )
    assert {each["data-o"] for each in rows} == {*Outcome, WAITING}


def test_the_page_needs_nothing_beside_itself(large: Report) -> None:
    page = Page(report(large))
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("script") == 1


def test_the_policy_of_the_page_names_its_own_script_and_style_alone(large: Report) -> None:
    own = r"'sha256-[A-Za-z0-9+/]{43}='"
    assert re.fullmatch(
        rf"default-src 'none'; img-src data:; style-src {own}; script-src {own}; base-uri 'none'; form-action 'none'",
        Page(report(large)).policy,
    )


def test_an_account_may_be_called_anything() -> None:
    accounts = [account(1, _HOSTILE), account(2, "payments")]
    rows = [
        row(
            accounts[0],
            Outcome.FAILED,
            Reason.REJECTED,
            error=f"AWS said {_HOSTILE}",
            failed_at="2026-11-20T00:00:00+00:00",
        ),
        row(accounts[1], Outcome.ENROLLED),
    ]
    page = Page(report(told_of(accounts, rows)))
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 0
    assert [each["text"] for each in page.rows] == [_HOSTILE, "payments"]
    assert " ".join(f"AWS said {_HOSTILE}".split()) in page.words


def test_a_failure_is_told_with_its_meaning_and_remedy() -> None:
    failing = account(1, "payments")
    rows = [
        row(
            failing,
            Outcome.FAILED,
            Reason.SCP_DENIED,
            error="p-0a1b denies",
            attempts=2,
            in_force_since="2026-01-01T00:00:00+00:00",
        )
    ]
    words = Page(report(told_of([failing], rows))).words
    assert "0 of 1 eligible account is enrolled" in words
    assert "A service control policy denies a call in the account." in words
    assert "What to do Exempt the access role" in words
    assert "2 attempts, still readable p-0a1b denies" in words


def test_the_external_id_is_not_shown() -> None:
    html = report(told_of([], [], settings(EXTERNAL_ID="auditors-secret")))
    assert "auditors-secret" not in html
    assert "External id required not shown here" in Page(html).words


def test_who_can_assume_what_is_told() -> None:
    given = settings(
        "aws-cn",
        SOURCE_PRINCIPAL_ARNS="arn:aws-cn:iam::111122223333:root",
        DENY_DATA_READS="false",
        MEMBER_ROLE_MAX_SESSION="7200",
        SOURCE_POLICY_SCOPE="organization",
        PERMISSIONS_BOUNDARY_ARN="arn:aws-cn:iam::{account_id}:policy/Bound",
    )
    words = Page(report(told_of([], [], given))).words
    for told in (
        "arn:aws-cn:iam::111122223333:root any principal of that account that it delegates to",
        "in every account of the organization but those left out",
        "External id not required",
        "at most 7,200 seconds",
        "arn:aws-cn:iam::aws:policy/ReadOnlyAccess",
        "not denied beyond what the policies allow",
        "arn:aws-cn:iam::{account_id}:policy/Bound",
        "There is none yet: no account is granted access.",
    ):
        assert told in words


def with_records(found: Records) -> str:
    """Return the words of a report with other records."""
    return Page(report(replace(told_of([], []), source_policy=read_source_policy(found, settings())))).words


def test_shards_show_their_fill_and_what_is_wrong(large: Report) -> None:
    first = shard(*(each.account_id for each in large.standings[:77]), name="P", frozen=True)
    second = replace(
        shard(name="P-2", attached=frozenset({"arn:aws:iam::111122223333:role/Reader"})), verified_at=MOMENT
    )
    third = replace(shard(name="P-3"), error=Problem(Reason.REJECTED, "denied <b>"))
    words = with_records(records(first, second, third, ShardRecord(name="P-4")))
    assert (
        f"In account 111122223333 : 4 shards grant 77 accounts, and a shard has room for {capacity(settings())}."
        in words
    )
    assert "P 77 20.2 % nobody yet up to date, frozen never" in words
    assert "P-2 0 0 % arn:aws:iam::111122223333:role/Reader up to date 2026-11-25 09:30 UTC" in words
    assert "P-3 0 0 % nobody yet failed : denied <b> never" in words
    assert "P-4 0 0 % nobody yet not written completely never" in words


def test_state_of_publishing_is_shown(large: Report) -> None:
    words = Page(report(large)).words
    assert "Publishing not blocked Room 10 shards Source principals read 2026-11-25 08:30 UTC" in words
    assert "Checked against IAM 2026-11-25 09:00 UTC All shards verified 2026-11-25 04:30 UTC" in words
    assert "Pending accounts 2, the oldest since 20" in words


def test_before_the_first_run_publishing_is_not_known() -> None:
    assert "is not known yet: publish has not run" in with_records(Records())


DENIED = frozenset({"arn:aws:iam::111122223333:role/Reader"})


@pytest.mark.parametrize(
    ("found", "banner"),
    [
        (
            records(
                replace(shard(frozen=True, attached=DENIED), denied_principals=DENIED), control=Control(frozen=True)
            ),
            "Frozen. The source policy denies every new session",
        ),
        (records(shard(), control=Control(frozen=True)), "Freeze not in force. A freeze was requested"),
        (
            records(shard(frozen=True), control=Control(frozen=False)),
            "Unfreeze not in force. An unfreeze was requested",
        ),
        (records(control=Control(uninstalling=True)), "Uninstalling. Everything is being uninstalled"),
        (Records(control=Control(uninstalled=True)), "Uninstalling. Everything is uninstalled."),
        (
            records(blocked=Problem(Reason.QUOTA, "the source policy is full")),
            f"New accounts get no access: quota: the source policy is full. {REMEDY[Reason.QUOTA]}",
        ),
        (records(shards=1), f"Records are lost of CrossAccountReadOnlyAccess: {RESTORE}"),
    ],
)
def test_banner_shows_what_concerns_every_account(found: Records, banner: str) -> None:
    assert banner in with_records(found)


def test_pending_accounts_are_shown_with_what_blocks_them() -> None:
    waiting, failing = account(1, "waiting"), account(2, "failing")
    rows = [
        row(waiting, Outcome.ENROLLED, in_force_since=None),
        row(failing, Outcome.FAILED, Reason.QUOTA, failed_at="2026-11-20T00:00:00+00:00"),
    ]
    blocked = Page(report(told_of([waiting, failing], rows, blocked=Problem(Reason.QUOTA, "full"))))
    assert {(each["text"], each["data-o"], each["data-r"]) for each in blocked.rows} == {
        ("waiting", "pending", "quota"),
        ("failing", "failed", "quota"),
    }
    assert blocked.ids.count("reason-quota") == 1
    assert "1 of 2" not in blocked.words
    pending = Page(report(told_of([waiting], rows[:1])))
    assert f"source_policy_pending 1 {MEANING[Reason.SOURCE_POLICY_PENDING]}" in pending.words


def test_retired_account_is_pending_while_it_is_granted() -> None:
    closing = account(1, "closing", state="PENDING_CLOSURE")
    told = told_of(
        [closing], [row(closing, Outcome.RETIRED, Reason.PENDING_CLOSURE, in_force_since="2026-01-01T00:00:00+00:00")]
    )
    assert [(each.outcome, each.reason, each.still_granted) for each in told.standings] == [
        (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING, Reason.PENDING_CLOSURE)
    ]


def test_an_organization_of_nobody_is_a_page_too() -> None:
    assert "0 of 0 eligible accounts are enrolled" in Page(report(told_of([], []))).words


def test_the_tree_has_the_units_and_counts_what_is_below_them(large: Report) -> None:
    def shape(branch: Branch) -> tuple[str, int, list[object]]:
        return branch.unit.name, branch.counts.total(), [shape(each) for each in branch.branches]

    assert [shape(each) for each in large.trees] == [
        (
            "Root",
            300,
            [
                ("Sandboxes", 60, []),
                ("Security", 60, []),
                ("Workloads", 179, [("Production", 119, []), ("Staging", 60, [])]),
            ],
        )
    ]


def test_an_account_without_a_row_is_told_by_the_settings() -> None:
    accounts = [
        account(1, "new"),
        account(2, "closing", state="PENDING_CLOSURE"),
        account(3, "left-out", ("ou-ab12-55555555",)),
    ]
    told = told_of(accounts, [], settings(EXCLUDE_OU_IDS="ou-ab12-55555555"))
    assert {each.name: (each.outcome, each.reason) for each in told.standings} == {
        "new": (WAITING, None),
        "closing": (Outcome.SKIPPED, Reason.PENDING_CLOSURE),
        "left-out": (Outcome.SKIPPED, Reason.EXCLUDED),
    }


def test_an_account_that_is_eligible_again_waits() -> None:
    back = account(1, "back")
    told = told_of([back], [row(back, Outcome.RETIRED, Reason.SUSPENDED)])
    assert [(each.outcome, each.reason) for each in told.standings] == [(WAITING, None)]
    assert (told.coverage.eligible, told.coverage.enrolled) == (1, 0)


def test_accounts_that_should_no_longer_be_granted_come_first() -> None:
    closing, left, stays = account(1, "closing", state="PENDING_CLOSURE"), account(2, "left"), account(3, "stays")
    told = told_of([closing, stays], [row(each, Outcome.ENROLLED) for each in (closing, left, stays)])
    words = Page(report(told)).words
    assert "1 of 1 eligible account is enrolled" in words
    assert "2 accounts too many. The source policy still grants them and should not" in words
    assert f"{closing.id} (pending_closure), {left.id} (departed)" in words.replace(" (", " (").replace(" )", ")")
    assert "stays enrolled 20" in words
    assert "closing enrolled should not be readable: pending_closure" in words
