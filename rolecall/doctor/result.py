"""A check, and its result."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from rolecall.doctor.context import Context
from rolecall.document_links import linked


class CheckStatus(StrEnum):
    """Whether a check passed; unknown if it could not be made."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found, and the command or document that helps."""

    status: CheckStatus
    summary: str
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check, with the permissions that it needs; `needs_stage` is whether it only applies to a deployed stage."""

    name: str
    run: Callable[[Context], CheckResult]
    permissions: tuple[str, ...]
    needs_stage: bool = True


def ok(summary: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(CheckStatus.OK, summary)


def failed(summary: str, remedy: str) -> CheckResult:
    """Return the result of a check that failed."""
    return CheckResult(CheckStatus.FAILED, summary, linked(remedy))


def unknown(summary: str, remedy: str) -> CheckResult:
    """Return the result of a check that could not be made."""
    return CheckResult(CheckStatus.UNKNOWN, summary, linked(remedy))
