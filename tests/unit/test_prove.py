"""What AWS's answers bear out, and which accounts are tried."""

from datetime import UTC, datetime

import pytest

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId, parse_principal
from chalicelib.errors import Reason
from rolecall.console import whole_lines
from rolecall.errors import CommandError
from rolecall.prove.evidence import Answer, Call, Claim, Subject, Tried, exit_status, findings, is_one_of, read_answer
from rolecall.prove.show import Evidence, show
from rolecall.prove.subjects import NOBODY, subjects
from tests.unit.builders import SOURCE, settings

ONE, TWO, THREE = (AccountId(f"{number:012}") for number in (1, 2, 3))
CLAIMS = (Claim.ASSUMED, Claim.READ, Claim.DATA_DENIED)


def call(expected: Answer, answer: Answer, message: str | None = None) -> Call:
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    return Call(action="a:B", resource="*", expected=expected, answer=answer, message=message, at=moment)


def tried(*calls: tuple[Claim, Call], claims: tuple[Claim, ...] = CLAIMS) -> Tried:
    subject = Subject(account_id=ONE, name="one", role_arn="arn", standing="enrolled", claims=claims)
    return Tried(subject=subject, calls=dict(calls))


LET_IN = (Claim.ASSUMED, call(Answer.ALLOWED, Answer.ALLOWED))
SHUT_OUT = (Claim.ASSUMED, call(Answer.ALLOWED, Answer.DENIED))
READ = (Claim.READ, call(Answer.ALLOWED, Answer.ALLOWED))
THROTTLED = (Claim.READ, call(Answer.ALLOWED, Answer.UNCLEAR))
DENIED = (Claim.DATA_DENIED, call(Answer.DENIED, Answer.DENIED, "… with an explicit deny in an identity-based policy"))
UNGRANTED = (Claim.DATA_DENIED, call(Answer.DENIED, Answer.DENIED, "… because no identity-based policy allows it"))
SHOWN = (Claim.DATA_DENIED, call(Answer.DENIED, Answer.ALLOWED))


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("AccessDenied", Answer.DENIED),
        ("AccessDeniedException", Answer.DENIED),
        ("ParameterNotFound", Answer.ALLOWED),
        ("Throttling", Answer.UNCLEAR),
        ("ExpiredToken", Answer.UNCLEAR),
    ],
)
def test_a_parameter_that_is_not_found_was_looked_for_and_only_a_denial_is_a_denial(code: str, answer: Answer) -> None:
    assert read_answer(code) is answer


@pytest.mark.parametrize(
    ("accounts", "verdicts", "status"),
    [
        ([tried(LET_IN, READ, DENIED)], [True, True, True], 0),
        ([tried(LET_IN, READ, DENIED), tried(LET_IN, READ, SHOWN)], [True, True, False], 1),
        ([tried(LET_IN, THROTTLED, DENIED)], [True, None, True], 2),
        ([tried(LET_IN, THROTTLED, SHOWN)], [True, None, False], 1),
        ([tried(SHUT_OUT)], [False, None, None], 1),
        ([], [], 2),
    ],
)
def test_one_counter_example_breaks_a_claim_and_what_was_not_tried_holds_nowhere(
    accounts: list[Tried], verdicts: list[bool | None], status: int
) -> None:
    found = findings(accounts)
    assert [finding.holds for finding in found] == verdicts
    assert exit_status(found) == status


def test_explicit_denials_are_counted_beside_those_for_want_of_a_permission() -> None:
    found = findings([tried(LET_IN, READ, DENIED), tried(LET_IN, READ, UNGRANTED)])
    assert [(each.claim, each.held, each.explicit) for each in found][-1] == (Claim.DATA_DENIED, 2, 1)


@pytest.mark.parametrize(
    ("principal", "caller", "is_one"),
    [
        ("role/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me", True),
        ("role/with/path/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me", True),
        ("role/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Readers/me", False),
        ("role/Reader", "arn:aws:sts::999999999999:assumed-role/Reader/me", False),
        ("role/Reader", f"arn:aws-cn:sts::{SOURCE}:assumed-role/Reader/me", False),
        ("role/Reader", f"arn:aws:iam::{SOURCE}:user/Reader", False),
        ("user/a/reading", f"arn:aws:iam::{SOURCE}:user/a/reading", True),
        ("user/a/reading", f"arn:aws:iam::{SOURCE}:user/reading", False),
        ("root", f"arn:aws:iam::{SOURCE}:user/anybody", True),
        ("root", "arn:aws:iam::999999999999:user/anybody", False),
        (
            "role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_*",
            f"arn:aws:sts::{SOURCE}:assumed-role/AWSReservedSSO_Audit_0123abcd/me@example.com",
            True,
        ),
    ],
)
def test_a_session_is_a_readers_by_its_role_whose_path_it_does_not_tell(
    principal: str, caller: str, is_one: bool
) -> None:
    assert is_one_of(caller, [parse_principal(f"arn:aws:iam::{SOURCE}:{principal}")]) is is_one


def row(account_id: AccountId, outcome: Outcome, since: str | None = None, reason: Reason | None = None) -> LedgerRow:
    return LedgerRow(account_id=account_id, outcome=outcome, in_force_since=since, reason=reason, updated_at="")


def account(account_id: AccountId) -> Account:
    return Account(id=account_id, name=f"name-{account_id[-1]}", state="ACTIVE", joined_at=None)


SINCE = "2026-11-25T10:00:00+00:00"
ENROLLED = row(ONE, Outcome.ENROLLED, SINCE)
STILL_IN = row(TWO, Outcome.FAILED, SINCE, Reason.NO_ACCESS_ROLE)
EXCLUDED = row(THREE, Outcome.SKIPPED, None, Reason.EXCLUDED)
LISTED = [account(each) for each in (ONE, TWO, THREE)]


def chosen(rows: list[LedgerRow], *named: str, listed: list[Account] = LISTED) -> list[tuple[str, bool, str]]:
    found = subjects(settings(), rows, listed, named=named)
    return [(each.account_id, each.claims == (Claim.KEPT_OUT,), each.standing) for each in found]


def test_enrolled_accounts_are_read_and_all_others_keep_the_reader_out() -> None:
    everyone = [EXCLUDED, STILL_IN, ENROLLED]
    assert chosen(everyone) == [(ONE, False, "enrolled"), (THREE, True, "skipped: excluded")]
    assert chosen([ENROLLED, EXCLUDED]) == [
        (ONE, False, "enrolled"),
        (TWO, True, "not in the ledger"),
        (THREE, True, "skipped: excluded"),
    ]


def test_account_whose_access_may_be_in_force_is_tried_if_it_is_named() -> None:
    named = chosen([ENROLLED, STILL_IN, EXCLUDED], TWO)
    assert named == [(TWO, False, "failed: no_access_role"), (THREE, True, "skipped: excluded")]
    pending = row(TWO, Outcome.ENROLLED)
    assert chosen([ENROLLED, pending, EXCLUDED]) == [(ONE, False, "enrolled"), (THREE, True, "skipped: excluded")]
    assert chosen([ENROLLED, pending, EXCLUDED], TWO)[0] == (TWO, False, "pending: source_policy_pending")


def test_where_all_are_enrolled_an_account_outside_is_tried() -> None:
    assert chosen([ENROLLED], listed=[account(ONE)]) == [
        (ONE, False, "enrolled"),
        (NOBODY, True, "not in the organization"),
    ]


def test_a_sample_is_of_each_kind() -> None:
    rows = [row(AccountId(f"{number:012}"), Outcome.ENROLLED, SINCE) for number in range(1, 51)]
    others = [account(AccountId(f"{number:012}")) for number in range(1, 101)]
    found = subjects(settings(), rows, others, sample=3)
    assert [len(each.claims) for each in found] == [3, 3, 3, 1, 1, 1]
    assert len({each.account_id for each in found}) == 6


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({}, CLAIMS),
        ({"DENY_DATA_READS": "false"}, CLAIMS[:2]),
        ({"EXTERNAL_ID": "secret"}, (*CLAIMS, Claim.EXTERNAL_ID_ASKED_FOR)),
    ],
)
def test_what_is_claimed_is_what_the_settings_promise(changes: dict[str, str], claims: tuple[Claim, ...]) -> None:
    assert subjects(settings(**changes), [ENROLLED], [])[0].claims == claims


def test_nothing_to_prove_and_no_account_are_said() -> None:
    with pytest.raises(CommandError, match="no account is enrolled in stage dev"):
        subjects(settings(), [EXCLUDED], LISTED)
    with pytest.raises(CommandError, match="'1234' is no account id"):
        subjects(settings(), [ENROLLED], LISTED, named=["1234"])


def test_names_that_others_chose_stay_on_their_line_and_command_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    name = 'a, "b" [red]c[/] <b>\n\x1b[31m✔ 🚀'
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    subject = Subject(account_id=ONE, name=name, role_arn="arn", standing="enrolled", claims=(Claim.ASSUMED,))
    evidence = Evidence(
        settings=settings(),
        region="us-east-1",
        reader_arn=f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me",
        reader_user_id="AROA:me",
        began=moment,
        ended=moment,
        frozen=True,
        tried=[Tried(subject=subject, calls=dict([SHUT_OUT]))],
    )
    show(evidence, whole_lines())
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "stage dev in us-east-1 of account 999999999999",
        f"as arn:aws:sts::{SOURCE}:assumed-role/Reader/me, 2026-11-25 00:00:00 UTC",
        "the stage is frozen: readers are denied everything until rolecall unfreeze",
        "",
        "account       name                                standing  assumed",
        rf'{ONE}  a, "b" [red]c[/] <b>\n\x1b[31m✔ 🚀  enrolled  ✘ denied',
        "",
        f"✘ {ONE} assumed: a:B * was denied",
        "✘ 0 of 1 enrolled accounts let the reader in (sts:AssumeRole)",
        "a claim does not hold",
    ]
