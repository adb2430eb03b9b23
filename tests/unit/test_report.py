"""The report tells what is so, escapes whatever accounts are called, and needs nothing beside itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chalicelib.accounts import Outcome
from chalicelib.aws.shards import Snapshot
from chalicelib.errors import Reason
from chalicelib.source_policy import Shard
from rolecall.report import Report, report
from rolecall.standings import WAITING, Branch
from tests.unit.builders import settings
from tests.unit.reported import account, organization, row, told_of

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
    rows = [row(failing, Outcome.FAILED, Reason.SCP_DENIED, error="p-0a1b denies", attempts=2, policy_name="P")]
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
        "There is none yet: no account is enrolled.",
    ):
        assert told in words


def test_shards_show_their_fill_and_what_is_still_to_be_written(large: Report) -> None:
    shards = (
        Shard(
            name="P",
            accounts=frozenset(each.account_id for each in large.standings[:77]),
            version=2,
            written=1,
            frozen=True,
        ),
        Shard(name="P-2", version=1, written=1, attached=frozenset({"arn:aws:iam::111122223333:role/Reader"})),
    )
    words = Page(report(replace(large, snapshot=Snapshot(1, shards, stopped=True)))).words
    assert "In account 111122223333 : 2 shards name 77 accounts, and a shard has room for 385." in words
    assert "P 77 20.0 % nobody yet to be written , frozen" in words
    assert "P-2 0 0 % arn:aws:iam::111122223333:role/Reader up to date" in words
    assert "Frozen. The source policy denies the readers every new session" in words
    assert "Stopped. Everything is being uninstalled" in words


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


def test_accounts_that_the_source_policy_should_no_longer_name_are_told_first() -> None:
    closing, left, stays = account(1, "closing", state="PENDING_CLOSURE"), account(2, "left"), account(3, "stays")
    told = told_of([closing, stays], [row(each, Outcome.ENROLLED) for each in (closing, left, stays)])
    words = Page(report(told)).words
    assert "1 of 1 eligible account is enrolled" in words
    assert "2 accounts too many. The source policy still names them and should not" in words
    assert f"{closing.id} (pending_closure), {left.id} (departed)" in words.replace(" (", " (").replace(" )", ")")
    assert "stays enrolled 20" in words
    assert "closing enrolled should not be readable: pending_closure" in words
