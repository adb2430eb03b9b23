"""AWS errors as Rolecall's errors, so that no other module compares error codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.retries import standard

from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError

# The last four are errors of a very new account, whose services are still starting.
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "OptInRequired",
    "SubscriptionRequiredException",
}
_retries: Any = standard  # whose tables are private, and not in its types
_THROTTLED = {*_retries.ThrottledRetryableChecker._THROTTLED_ERROR_CODES}  # noqa: SLF001
_TRANSIENT = {
    *_retries.TransientRetryableChecker._TRANSIENT_ERROR_CODES,  # noqa: SLF001
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ReplicatedWriteConflictException",
    "ServiceFailure",
    "ServiceException",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "TransactionConflictException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "EntityTemporarilyUnmodifiable",
    "FinalizingOrganizationException",
    "TargetNotFoundException",  # of an account that was described a moment ago
}
# The clock of a function that was frozen between invocations may be wrong for a moment.
_CLOCK_SKEW = ("signature expired", "signature not yet current")
_PROFILE = "instance profile"  # in the message of a DeleteConflict
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


def error_code(error: ClientError) -> str:
    """Return the error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise Rolecall's error for an AWS error; `doing` is what was attempted and where, for the message."""
    try:
        yield
    except ClientError as error:
        raise account_error(error, doing) from error
    except BotoCoreError as error:
        # Timeouts and connection errors: whether the call took effect is not known.
        raise RetryableError(Reason.SERVICE_ERROR, f"{doing}: {error}") from error


def account_error(error: ClientError, doing: str) -> AccountError:
    """Return Rolecall's error for an AWS error."""
    code = error_code(error)
    answer = str(error.response.get("Error", {}).get("Message", ""))
    message = f"{doing}: {code}: {answer}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if any(text in answer.lower() for text in _CLOCK_SKEW):
        return RetryableError(Reason.SERVICE_ERROR, message)
    if code in _DENIED:
        return TerminalError(denial_reason(answer), message)
    if code in _THROTTLED or status == _TOO_MANY_REQUESTS:
        return RetryableError(Reason.THROTTLED, message)
    if code in _TRANSIENT or status >= _SERVER_ERROR:
        return RetryableError(Reason.SERVICE_ERROR, message)
    # IAM calls a policy or boundary that doesn't exist "not attachable"; anything else existed a moment ago.
    if code == "PolicyNotAttachable" or (code == "NoSuchEntity" and "attachable" in answer):
        return TerminalError(Reason.NO_SUCH_POLICY, message)
    # A role or policy that can't be deleted has something that the read before didn't show: the next pass reads again.
    if code in {"NoSuchEntity", "EntityAlreadyExists"} or (code == "DeleteConflict" and _PROFILE not in answer):
        return RetryableError(Reason.STALE_READ, message)
    return TerminalError(*_rejection(code, answer, message))


def _rejection(code: str, answer: str, message: str) -> tuple[Reason, str]:
    """Return the reason and message of a call that is rejected for its content, with what to do."""
    if code == "PackedPolicyTooLarge":
        return Reason.QUOTA, f"{message}: set fewer MemberRolePolicyArns, or shorter names"
    if code == "LimitExceeded":
        return Reason.QUOTA, message
    if code == "DeleteConflict":
        return Reason.INSTANCE_PROFILE, f"{message}: remove the role from its instance profile"
    if "artition" in answer and "not valid" in answer:
        return Reason.REJECTED, f"{message}: check the partition in the ARNs of the settings"
    return Reason.REJECTED, message


def denial_reason(answer: str) -> Reason:
    """Return what denied a call, by the error's text ("Troubleshoot access denied error messages" in the IAM User Guide)."""
    text = answer.lower()
    if "service control policy" in text:
        return Reason.SCP_DENIED
    if "resource control policy" in text:
        return Reason.RCP_DENIED
    return Reason.ACCESS_DENIED
