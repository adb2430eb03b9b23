"""What was tried in each account, what AWS answered, and which claims that bears out; pure, without a call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from chalicelib.arns import AccountId, Principal

ALL_HOLD, SOME_BROKEN, CANT_TELL = 0, 1, 2
"""The exit statuses."""

_DENIED = {"AccessDenied", "AccessDeniedException"}


class Answer(StrEnum):
    """What AWS made of a call: `unclear` where its answer tells neither, or there was none."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNCLEAR = "unclear"


class Claim(StrEnum):
    """What is claimed of an account."""

    ASSUMED = "assumed"
    READ = "read"
    DATA_DENIED = "data denied"
    EXTERNAL_ID_ASKED_FOR = "no external id"
    KEPT_OUT = "kept out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call, by the action that IAM knows it as, and AWS's answer in its own words."""

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
        """Whether the answer is the expected one; None where it can't be told."""
        return None if self.answer is Answer.UNCLEAR else self.answer is self.expected

    @property
    def is_explicit(self) -> bool:
        """Whether AWS says that a policy denies it, and not merely that none allows it."""
        return self.answer is Answer.DENIED and "explicit deny" in (self.message or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An account that is to be tried, and what is claimed of it."""

    account_id: AccountId
    name: str
    role_arn: str
    standing: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """An account with the calls that were made for its claims; a claim without a call could not be tried."""

    subject: Subject
    calls: Mapping[Claim, Call]

    def holds(self, claim: Claim) -> bool | None:
        """Whether a claim holds in this account; None where it can't be told."""
        call = self.calls.get(claim)
        return None if call is None else call.holds


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A claim about all accounts that it is made of: in how many it holds, is broken, or can't be told."""

    claim: Claim
    held: int
    broken: int
    unclear: int
    explicit: int

    @property
    def total(self) -> int:
        """In how many accounts it is claimed."""
        return self.held + self.broken + self.unclear

    @property
    def holds(self) -> bool | None:
        """Whether it holds in all of them: one counter-example breaks it."""
        if self.broken:
            return False
        return None if self.unclear else True


def read_answer(code: str) -> Answer:
    """Tell what an error code says about permission: AWS looks for what is asked for only once it may be seen."""
    if code in _DENIED:
        return Answer.DENIED
    return Answer.ALLOWED if code == "ParameterNotFound" else Answer.UNCLEAR


def findings(tried: Iterable[Tried]) -> list[Finding]:
    """Sum up each claim over all accounts that it is made of."""
    everything = list(tried)
    summed = []
    for claim in Claim:
        claimed = [each for each in everything if claim in each.subject.claims]
        told = [each.holds(claim) for each in claimed]
        explicit = sum(call.is_explicit for each in claimed if (call := each.calls.get(claim)))
        if claimed:
            summed.append(
                Finding(
                    claim=claim,
                    held=told.count(True),
                    broken=told.count(False),
                    unclear=told.count(None),
                    explicit=explicit,
                )
            )
    return summed


def exit_status(found: Iterable[Finding]) -> int:
    """Tell by the exit status whether all is as claimed."""
    verdicts = [finding.holds for finding in found]
    if False in verdicts:
        return SOME_BROKEN
    return ALL_HOLD if verdicts and None not in verdicts else CANT_TELL


def is_one_of(caller_arn: str, principals: Iterable[Principal]) -> bool:
    """Tell whether a caller, as STS names it, is one of the source principals."""
    _, partition, _, _, account_id, resource = caller_arn.split(":", 5)
    kind, _, name = resource.partition("/")
    for principal in principals:
        if (principal.partition, principal.account_id) != (partition, account_id):
            continue
        # A session's ARN names its role without the path.
        is_its_session = kind == "assumed-role" and fnmatchcase(name.partition("/")[0], principal.name)
        if (
            principal.kind == "root"
            or (principal.kind == "role" and is_its_session)
            or (principal.kind == "user" and caller_arn == principal.arn)
        ):
            return True
    return False
