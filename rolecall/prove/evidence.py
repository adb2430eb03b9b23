"""What is claimed of each account, the calls that test it, and AWS's answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from chalicelib.arns import AccountId, Principal
from chalicelib.settings import Settings
from rolecall.exit_status import ExitStatus

_DENIED = {"AccessDenied", "AccessDeniedException"}

DATA_READ = "ssm:GetParameter"
"""The data read that is tested in place of all."""


class Answer(StrEnum):
    """Whether AWS allowed a call; `unclear` if its answer shows neither, or there was none."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNCLEAR = "unclear"


class Claim(StrEnum):
    """What is claimed of an account."""

    ASSUMED = "assumed"
    READ = "read"
    DATA_DENIED = "data denied"
    EXTERNAL_ID_REQUIRED = "external id required"
    NOT_ASSUMABLE = "not assumable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call, named by its IAM action, and AWS's answer."""

    action: str
    resource: str
    expected: Answer
    answer: Answer
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    at: datetime

    @property
    def holds(self) -> bool | None:
        """Whether the answer is the expected one, or None if it is unclear."""
        return None if self.answer is Answer.UNCLEAR else self.answer is self.expected

    @property
    def is_explicit(self) -> bool:
        """Whether a policy denied the call explicitly."""
        return self.answer is Answer.DENIED and "explicit deny" in (self.message or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountClaims:
    """An account with its status, its member role and what is claimed of it."""

    account_id: AccountId
    name: str
    role_arn: str
    status: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountEvidence:
    """An account with the call that tested each claim; a claim that could not be tested has none."""

    account: AccountClaims
    calls: Mapping[Claim, Call]

    def claim_holds(self, claim: Claim) -> bool | None:
        """Whether a claim holds, or None if that is unclear or not tested."""
        call = self.calls.get(claim)
        return None if call is None else call.holds

    @property
    def holds(self) -> bool | None:
        """Whether all claims hold, or None if that is unclear for one and none is false."""
        return _all_hold(self.claim_holds(claim) for claim in self.account.claims)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimResult:
    """The number of accounts in which a claim passed, failed or is unknown; `explicit` counts explicit denials."""

    claim: Claim
    passed: int
    failed: int
    unknown: int
    explicit: int

    @property
    def total(self) -> int:
        """The number of accounts with the claim."""
        return self.passed + self.failed + self.unknown

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds in all of them, or None if that is unknown for one and none failed."""
        if self.failed:
            return False
        return None if self.unknown else True


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All tested accounts of a stage, with the source principal and the time of the test."""

    settings: Settings
    region: str
    principal_arn: str
    principal_id: str
    started: datetime
    ended: datetime
    frozen: bool
    accounts: Sequence[AccountEvidence]

    @property
    def results(self) -> list[ClaimResult]:
        """The result of each claim."""
        return summarize(self.accounts)

    @property
    def exit_status(self) -> ExitStatus:
        """PROBLEM if a claim failed, UNKNOWN if one is unknown or nothing was tested."""
        return exit_status(self.results)


def parse_answer(code: str) -> Answer:
    """Return what an error code means; AWS checks the permission before it looks for a parameter."""
    if code in _DENIED:
        return Answer.DENIED
    return Answer.ALLOWED if code == "ParameterNotFound" else Answer.UNCLEAR


def summarize(accounts: Sequence[AccountEvidence]) -> list[ClaimResult]:
    """Return the result of each claim over the accounts that have it. Claims of no account are omitted."""
    results = []
    for claim in Claim:
        claimed = [each for each in accounts if claim in each.account.claims]
        held = [each.claim_holds(claim) for each in claimed]
        explicit = sum(call.is_explicit for each in claimed if (call := each.calls.get(claim)))
        if claimed:
            results.append(
                ClaimResult(
                    claim=claim,
                    passed=held.count(True),
                    failed=held.count(False),
                    unknown=held.count(None),
                    explicit=explicit,
                )
            )
    return results


def exit_status(results: Iterable[ClaimResult]) -> ExitStatus:
    """Return PROBLEM if a claim failed, UNKNOWN if one is unknown or there is none."""
    held = [result.holds for result in results]
    if False in held:
        return ExitStatus.PROBLEM
    return ExitStatus.OK if held and None not in held else ExitStatus.UNKNOWN


def _all_hold(claims: Iterable[bool | None]) -> bool | None:
    held = list(claims)
    if False in held:
        return False
    return None if None in held else True


def is_one_of(caller_arn: str, principals: Iterable[Principal]) -> bool:
    """Whether a caller's ARN, as STS returns it, is that of a source principal or of its session."""
    _, partition, _, _, account_id, resource = caller_arn.split(":", 5)
    kind, _, name = resource.partition("/")
    for principal in principals:
        if (principal.partition, principal.account_id) != (partition, account_id):
            continue
        # The ARN of a session has its role's name without the path.
        is_session = kind == "assumed-role" and fnmatchcase(name.partition("/")[0], principal.name)
        if (
            principal.kind == "root"
            or (principal.kind == "role" and is_session)
            or (principal.kind == "user" and caller_arn == principal.arn)
        ):
            return True
    return False
