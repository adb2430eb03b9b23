"""The faults that a call may meet."""

from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from tests.integration.simulation.calls import Call, Caller, client_error

ENDPOINT = "https://aws.simulated"
OVERLAP = "overlap"  # a second run of publish begins during the call
LATE = "late"  # publish gives up a write, which takes effect later
KILLS = ("killed before", "killed after")
ERRORS = (
    "throttled",
    "5xx",
    "reset",
    "timeout after",
    "5xx after",
    "repeated",
    "expired",
    "denied",
    "concurrent",
    LATE,
)
"""Errors that have outlasted botocore's own retries; "after" means after the call took effect."""


class KilledError(BaseException):
    """Ends the frames of a killed function; no call that they still make has an effect."""


_CLIENT_ERRORS = {
    "throttled": ("ThrottlingException", "Rate exceeded", 400),
    "5xx": ("ServiceUnavailable", "try later", 503),
    "5xx after": ("ServiceUnavailable", "try later", 503),
    "expired": ("ExpiredTokenException", "The security token included in the request is expired", 403),
    "denied": ("AccessDenied", "not authorized", 403),
    "scp": ("AccessDenied", "not authorized, with an explicit deny in a service control policy", 403),
    "concurrent": ("ConcurrentModification", "modified at the same time", 409),
    "quota": ("LimitExceeded", "Cannot exceed quota", 409),
    "not there yet": ("NoSuchEntity", "cannot be found", 404),
}


def error_of(fault: str) -> Exception:
    """Return the error that a fault is raised as."""
    if fault in _CLIENT_ERRORS:
        return client_error(*_CLIENT_ERRORS[fault])
    kinds = {"reset": ConnectionClosedError, "timeout": ReadTimeoutError, "timeout after": ReadTimeoutError}
    return kinds[fault](endpoint_url=ENDPOINT)


def takes_effect_first(fault: str) -> bool:
    """Whether the call takes effect before the fault."""
    return fault.endswith("after")


def distinct_faults(call: Call, caller: Caller) -> set[str]:
    """Return the faults that leave a state which no other fault at any call leaves."""
    faults = {fault for fault in ERRORS if not takes_effect_first(fault)} - {LATE, "repeated"}
    # A kill before a call, or after a read, leaves the state that a kill after the last write leaves.
    if not caller.calls:
        faults.add("killed before")
    if not call.is_read:
        faults |= {"killed after", "timeout after", "5xx after", "repeated"}
    if caller.function == "publish":
        faults |= {OVERLAP} if call.is_read else {OVERLAP, LATE}
    return faults
