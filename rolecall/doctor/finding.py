"""What a check found, and the check itself."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from rolecall.doctor.patient import Patient


class Verdict(StrEnum):
    """How a check ends."""

    OK = "ok"
    WRONG = "wrong"
    CANT_TELL = "can't tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, and the command that mends it, or that tells more."""

    verdict: Verdict
    saw: str
    mend: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that may be wrong; `permissions` are what looking takes, and `of_stage` tells that a stage must be there."""

    name: str
    look: Callable[[Patient], Finding]
    permissions: tuple[str, ...]
    of_stage: bool = True


def ok(saw: str) -> Finding:
    """Tell that all is well."""
    return Finding(Verdict.OK, saw)


def wrong(saw: str, mend: str) -> Finding:
    """Tell what somebody must mend."""
    return Finding(Verdict.WRONG, saw, mend)


def cant_tell(saw: str, mend: str) -> Finding:
    """Tell why it could not be seen; `mend` says what would show it."""
    return Finding(Verdict.CANT_TELL, saw, mend)
