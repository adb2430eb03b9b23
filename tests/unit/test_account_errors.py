"""Which of Rolecall's errors an AWS error becomes."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.retries import standard

from chalicelib.aws.errors import account_error
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError

RETRIES: Any = standard


def error_of(code: str, message: str = "", status: int = 400) -> AccountError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return account_error(ClientError(answer, "Call"), "doing it")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "code",
    [
        *RETRIES.ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
        *RETRIES.TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    ],
)
def test_what_botocore_retries_is_retryable(code: str) -> None:
    assert isinstance(error_of(code), RetryableError)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 509])
def test_statuses_that_botocore_retries_are_retryable(status: int) -> None:
    assert isinstance(error_of("Anything", status=status), RetryableError)


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidSignatureException", "AccessDenied"])
@pytest.mark.parametrize("text", ["Signature expired: 20261130T000000Z", "Signature not yet current: 2026"])
def test_clock_skew_is_retryable(code: str, text: str) -> None:
    error = error_of(code, text, 403)
    assert (type(error), error.reason) == (RetryableError, Reason.SERVICE_ERROR)


@pytest.mark.parametrize(
    ("code", "message", "reason", "remedy"),
    [
        ("InvalidClientTokenId", "", Reason.ACCESS_DENIED, ""),
        ("UnrecognizedClientException", "", Reason.ACCESS_DENIED, ""),
        ("PolicyNotAttachable", "", Reason.NO_SUCH_POLICY, ""),
        ("NoSuchEntity", "Policy arn:x does not exist or is not attachable.", Reason.NO_SUCH_POLICY, ""),
        ("PackedPolicyTooLarge", "", Reason.QUOTA, "fewer MemberRolePolicyArns"),
        ("LimitExceeded", "", Reason.QUOTA, ""),
        (
            "DeleteConflict",
            "Cannot delete entity, must remove roles from instance profile first.",
            Reason.INSTANCE_PROFILE,
            "remove the role from its instance profile",
        ),
        ("MalformedPolicyDocument", 'Partition "aws" is not valid for resource "x".', Reason.REJECTED, "partition"),
        ("MalformedPolicyDocument", "", Reason.REJECTED, ""),
    ],
)
def test_rejected_call_has_its_reason_and_remedy(code: str, message: str, reason: Reason, remedy: str) -> None:
    error = error_of(code, message)

    assert (type(error), error.reason) == (TerminalError, reason)
    assert str(error).startswith(f"doing it: {code}: {message}")
    assert remedy in str(error)


@pytest.mark.parametrize("code", ["NoSuchEntity", "EntityAlreadyExists", "DeleteConflict"])
def test_contradicting_reads_are_retried(code: str) -> None:
    error = error_of(code, "Cannot delete entity, must detach all policies first.")
    assert (type(error), error.reason) == (RetryableError, Reason.STALE_READ)
