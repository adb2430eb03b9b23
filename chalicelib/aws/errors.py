"""Which of our errors an AWS error is, so that no other code compares error codes."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError

# AccessDenied and its kin; the last three are what a very new account answers while its services start.
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
    """Take the error code out of an answer."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise our error for AWS's; `doing` says what was tried and where."""
    try:
        yield
    except ClientError as error:
        raise account_error(error, doing) from error
    except BotoCoreError as error:
        # Time-outs, resets and endpoints that don't answer: whether the call took effect is unknown, and asked again.
        raise RetryableError(Reason.SERVICE_ERROR, f"{doing}: {error}") from error


def account_error(error: ClientError, doing: str) -> AccountError:
    """Turn one of AWS's errors into ours."""
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
        # IAM names a policy or boundary that doesn't exist "not attachable"; anything else was there a moment ago.
        if "attachable" in answer:
            return TerminalError(Reason.NO_SUCH_POLICY, message)
        return RetryableError(Reason.STALE_READ, message)
    if code == "EntityAlreadyExists":
        return RetryableError(Reason.STALE_READ, message)
    if code == "LimitExceeded":
        return TerminalError(Reason.QUOTA, message)
    return TerminalError(Reason.REJECTED, message)


def denial_reason(answer: str) -> Reason:
    """Tell what denied a call by the text of the answer ("Troubleshoot access denied error messages" in the IAM guide)."""
    text = answer.lower()
    if "service control policy" in text:
        return Reason.SCP_DENIED
    if "resource control policy" in text:
        return Reason.RCP_DENIED
    return Reason.ACCESS_DENIED
