"""AWS errors as Rolecall's errors, so that no other module compares error codes."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError

# The last three are errors of a very new account, whose services are still starting.
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "InvalidClientTokenId",
    "OptInRequired",
    "SubscriptionRequiredException",
}
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ProvisionedThroughputExceededException",
}
_PASSING = {
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ServiceFailure",
    "ServiceException",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "TransactionInProgressException",
    "TransactionConflictException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "EntityTemporarilyUnmodifiable",
    "FinalizingOrganizationException",
}
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
    if code in _DENIED:
        return TerminalError(denial_reason(answer), message)
    if code in _THROTTLED:
        return RetryableError(Reason.THROTTLED, message)
    if code in _PASSING or status >= _SERVER_ERROR:
        return RetryableError(Reason.SERVICE_ERROR, message)
    if code == "NoSuchEntity":
        # IAM calls a policy or boundary that doesn't exist "not attachable"; anything else existed a moment ago.
        if "attachable" in answer:
            return TerminalError(Reason.NO_SUCH_POLICY, message)
        return RetryableError(Reason.STALE_READ, message)
    if code == "EntityAlreadyExists":
        return RetryableError(Reason.STALE_READ, message)
    if code == "LimitExceeded":
        return TerminalError(Reason.QUOTA, message)
    return TerminalError(Reason.REJECTED, message)


def denial_reason(answer: str) -> Reason:
    """Return what denied a call, by the error's text ("Troubleshoot access denied error messages" in the IAM User Guide)."""
    text = answer.lower()
    if "service control policy" in text:
        return Reason.SCP_DENIED
    if "resource control policy" in text:
        return Reason.RCP_DENIED
    return Reason.ACCESS_DENIED
