"""Which accounts `rolecall prove` tests, and what follows from AWS's answers."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.arns import AccountId, parse_principal
from chalicelib.errors import Reason
from rolecall.console import output_console
from rolecall.errors import CommandError
from rolecall.prove.account_claims import OUTSIDE_ACCOUNT, select_accounts
from rolecall.prove.evidence import (
    AccountClaims,
    AccountEvidence,
    Answer,
    Call,
    Claim,
    Evidence,
    exit_status,
    is_one_of,
    parse_answer,
    summarize,
)
from rolecall.prove.evidence_page import print_evidence
from tests.unit.builders import SOURCE, settings
from tests.unit.ledger_rows import account, numbered, row

ONE, TWO, THREE = map(numbered, (1, 2, 3))
CLAIMS = (Claim.ASSUMED, Claim.READ, Claim.DATA_DENIED)
AT = datetime(2026, 11, 25, tzinfo=UTC)


def call(expected: Answer, answer: Answer, message: str | None = None) -> Call:
    return Call(action="a:B", resource="*", expected=expected, answer=answer, message=message, at=AT)


def evidence_of(
    *calls: tuple[Claim, Call],
    account_id: AccountId = ONE,
    name: str = "one",
    status: str = "enrolled",
    claims: tuple[Claim, ...] = CLAIMS,
) -> AccountEvidence:
    claimed = AccountClaims(account_id=account_id, name=name, role_arn="arn", status=status, claims=claims)
    return AccountEvidence(account=claimed, calls=dict(calls))


def page_of(accounts: list[AccountEvidence], width: int, *, frozen: bool = False) -> list[str]:
    """Return the lines of the page on a console of some width, without what precedes the table."""
    evidence = Evidence(
        settings=settings(),
        region="us-east-1",
        principal_arn=f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me",
        principal_id="AROA:me",
        started=AT,
        ended=AT,
        frozen=frozen,
        accounts=accounts,
    )
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        print_evidence(evidence, console)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return lines[lines.index("") + 1 :]


ASSUMED = (Claim.ASSUMED, call(Answer.ALLOWED, Answer.ALLOWED))
NOT_ASSUMED = (Claim.ASSUMED, call(Answer.ALLOWED, Answer.DENIED))
READ = (Claim.READ, call(Answer.ALLOWED, Answer.ALLOWED))
THROTTLED = (Claim.READ, call(Answer.ALLOWED, Answer.UNCLEAR))
EXPLICIT = (
    Claim.DATA_DENIED,
    call(Answer.DENIED, Answer.DENIED, "… with an explicit deny in an identity-based policy"),
)
NOT_ASSUMABLE = (Claim.NOT_ASSUMABLE, call(Answer.DENIED, Answer.DENIED))
IMPLICIT = (Claim.DATA_DENIED, call(Answer.DENIED, Answer.DENIED, "… because no identity-based policy allows it"))
DATA_READ = (Claim.DATA_DENIED, call(Answer.DENIED, Answer.ALLOWED))


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
def test_only_a_denial_is_denied_and_a_missing_parameter_is_allowed(code: str, answer: Answer) -> None:
    assert parse_answer(code) is answer


@pytest.mark.parametrize(
    ("accounts", "holds", "status"),
    [
        ([evidence_of(ASSUMED, READ, EXPLICIT)], [True, True, True], 0),
        ([evidence_of(ASSUMED, READ, EXPLICIT), evidence_of(ASSUMED, READ, DATA_READ)], [True, True, False], 1),
        ([evidence_of(ASSUMED, THROTTLED, EXPLICIT)], [True, None, True], 2),
        ([evidence_of(ASSUMED, THROTTLED, DATA_READ)], [True, None, False], 1),
        ([evidence_of(NOT_ASSUMED)], [False, None, None], 1),
        ([], [], 2),
    ],
)
def test_claim_must_hold_in_every_account(
    accounts: list[AccountEvidence], holds: list[bool | None], status: int
) -> None:
    results = summarize(accounts)
    assert [result.holds for result in results] == holds
    assert exit_status(results) == status


def test_explicit_denials_are_counted() -> None:
    *_, result = summarize([evidence_of(ASSUMED, READ, EXPLICIT), evidence_of(ASSUMED, READ, IMPLICIT)])
    assert (result.claim, result.passed, result.explicit) == (Claim.DATA_DENIED, 2, 1)


@pytest.mark.parametrize(
    ("principal", "caller", "expected"),
    [
        ("role/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me", True),
        ("role/with/path/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me", True),
        ("role/Reader", f"arn:aws:sts::{SOURCE}:assumed-role/Readers/me", False),
        ("role/Reader", "arn:aws:sts::999999999999:assumed-role/Reader/me", False),
        ("role/Reader", f"arn:aws-cn:sts::{SOURCE}:assumed-role/Reader/me", False),
        ("role/Reader", f"arn:aws:iam::{SOURCE}:user/Reader", False),
        ("user/a/reading", f"arn:aws:iam::{SOURCE}:user/a/reading", True),
        ("user/a/reading", f"arn:aws:iam::{SOURCE}:user/reading", False),
        ("root", f"arn:aws:iam::{SOURCE}:user/any", True),
        ("root", "arn:aws:iam::999999999999:user/any", False),
        (
            "role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_*",
            f"arn:aws:sts::{SOURCE}:assumed-role/AWSReservedSSO_Audit_0123abcd/me@example.com",
            True,
        ),
    ],
)
def test_session_belongs_to_a_source_principal(principal: str, caller: str, expected: bool) -> None:
    assert is_one_of(caller, [parse_principal(f"arn:aws:iam::{SOURCE}:{principal}")]) is expected


SINCE = "2026-11-25T10:00:00+00:00"
ENROLLED = row(ONE)
FAILING = row(TWO, Outcome.FAILED, in_force_since=SINCE, reason=Reason.NO_ACCESS_ROLE)
PENDING = row(TWO, in_force_since=None)
EXCLUDED = row(THREE, Outcome.SKIPPED, reason=Reason.EXCLUDED)
FIRST, LAST = (ONE, False, "enrolled"), (THREE, True, "skipped: excluded")


@pytest.mark.parametrize(
    ("rows", "named", "chosen"),
    [
        ([ENROLLED, EXCLUDED], [], [FIRST, (TWO, True, "not in the ledger"), LAST]),
        ([EXCLUDED, FAILING, ENROLLED], [], [FIRST, LAST]),
        ([ENROLLED, PENDING, EXCLUDED], [], [FIRST, LAST]),
        ([ENROLLED, FAILING, EXCLUDED], [TWO], [(TWO, False, "failed: no_access_role"), LAST]),
        ([ENROLLED, PENDING, EXCLUDED], [TWO], [(TWO, False, "pending: source_policy_pending"), LAST]),
        (
            [ENROLLED, row(TWO), row(THREE)],
            [ONE],
            [FIRST, (OUTSIDE_ACCOUNT, True, "not in the organization")],
        ),
    ],
)
def test_enrolled_and_other_accounts_are_tested(
    rows: list[LedgerRow], named: list[AccountId], chosen: list[tuple[str, bool, str]]
) -> None:
    found = select_accounts(settings(), rows, map(account, (ONE, TWO, THREE)), named=named)
    assert [(each.account_id, each.claims == (Claim.NOT_ASSUMABLE,), each.status) for each in found] == chosen


def test_sample_has_accounts_of_each_kind() -> None:
    rows = [row(numbered(number)) for number in range(1, 51)]
    listed = [account(numbered(number)) for number in range(1, 101)]
    found = select_accounts(settings(), rows, listed, sample=3)
    assert [len(each.claims) for each in found] == [3, 3, 3, 1, 1, 1]
    assert len({each.account_id for each in found}) == 6


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({}, CLAIMS),
        ({"DENY_DATA_READS": "false"}, CLAIMS[:2]),
        ({"DENY_DATA_READS_EXCEPT": "s3:GetObject"}, CLAIMS),
        ({"DENY_DATA_READS_EXCEPT": "ssm:GetParameter"}, CLAIMS[:2]),
        ({"EXTERNAL_ID": "secret"}, (*CLAIMS, Claim.EXTERNAL_ID_REQUIRED)),
    ],
)
def test_claims_follow_from_the_settings(changes: dict[str, str], claims: tuple[Claim, ...]) -> None:
    assert select_accounts(settings(**changes), [ENROLLED], [])[0].claims == claims


def test_stage_without_enrolled_accounts_is_rejected() -> None:
    with pytest.raises(CommandError, match="no account is enrolled in stage dev"):
        select_accounts(settings(), [EXCLUDED], [account(THREE)])


EXTERNAL_ID = (Claim.EXTERNAL_ID_REQUIRED, call(Answer.DENIED, Answer.DENIED))


def test_table_fits_on_a_terminal_of_80_columns() -> None:
    accounts = [
        evidence_of(ASSUMED, READ, EXPLICIT, EXTERNAL_ID, name="payments-production", claims=(*CLAIMS, EXTERNAL_ID[0])),
        evidence_of(NOT_ASSUMED, status="failed: no_source_principal", claims=(*CLAIMS, EXTERNAL_ID[0])),
        evidence_of(NOT_ASSUMABLE, status="not in the organization", claims=(Claim.NOT_ASSUMABLE,)),
    ]
    lines = page_of(accounts, 80)
    assert max(map(len, lines)) <= 80
    table = lines[: lines.index("")]
    assert [line.split()[0] for line in table if line.startswith("0")] == [ONE, ONE, ONE]
    assert {"no_source_principal", "organization"} <= {word for line in table for word in line.split()}


def test_only_accounts_that_are_not_enrolled_have_an_answer() -> None:
    lines = page_of([evidence_of(NOT_ASSUMABLE, status="skipped: excluded", claims=(Claim.NOT_ASSUMABLE,))], 200)
    assert lines == [
        "account       name  status             assumed",
        f"{ONE}  one   skipped: excluded  ✔ denied",
        "",
        "✔ 1 of 1 accounts that are not enrolled deny the source principal (sts:AssumeRole)",
        "passed: access is exactly as configured",
    ]


def test_equal_answers_are_shown_once() -> None:
    denied = [
        evidence_of(
            (Claim.ASSUMED, call(Answer.ALLOWED, Answer.DENIED, f"not authorized on {numbered(number)}: frozen")),
            account_id=numbered(number),
            claims=(Claim.ASSUMED,),
        )
        for number in range(1, 401)
    ]
    other = evidence_of(NOT_ASSUMED, account_id=numbered(401), claims=(Claim.ASSUMED,))
    lines = page_of([*denied, other], 200, frozen=True)
    assert [line for line in lines if " was " in line] == [
        f"✘ {ONE} and 399 more assumed: a:B * was denied",
        f"✘ {numbered(401)} assumed: a:B * was denied",
    ]


def test_hostile_name_stays_in_its_cell(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = evidence_of(NOT_ASSUMED, name='a, "b" [red]c[/] <b>\n\x1b[31m✔ 🚀', claims=(Claim.ASSUMED,))
    evidence = Evidence(
        settings=settings(),
        region="us-east-1",
        principal_arn=f"arn:aws:sts::{SOURCE}:assumed-role/Reader/me",
        principal_id="AROA:me",
        started=AT,
        ended=AT,
        frozen=True,
        accounts=[hostile],
    )
    print_evidence(evidence, output_console())
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "stage dev in us-east-1 of account 999999999999",
        f"as arn:aws:sts::{SOURCE}:assumed-role/Reader/me, 2026-11-25 00:00:00 UTC",
        "the stage is frozen: every new session is denied until rolecall unfreeze",
        "",
        "account       name                                status    assumed",
        rf'{ONE}  a, "b" [red]c[/] <b>\n\x1b[31m✔ 🚀  enrolled  ✘ denied',
        "",
        f"✘ {ONE} assumed: a:B * was denied",
        "✘ 0 of 1 enrolled accounts allow the source principal to assume the member role (sts:AssumeRole)",
        "failed: access is not as configured",
    ]
