"""Each failure to reach or ask AWS is told in one sentence that says what to do."""

import pytest
from botocore import exceptions as aws
from botocore.exceptions import ClientError

from chalicelib.errors import Reason, SettingsError, TerminalError
from rolecall.aws_errors import explained
from rolecall.errors import CommandError
from rolecall.stage import told

DOING = "reading the ledger"


def answer(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Scan")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (aws.NoCredentialsError(), "there are no AWS credentials: set AWS_PROFILE or --profile, or sign in"),
        (aws.ProfileNotFound(profile="x"), "(x) could not be found: name a profile of ~/.aws/config by --profile"),
        (aws.UnauthorizedSSOTokenError(), "the session has ended: sign in again with aws sso login"),
        (aws.TokenRetrievalError(provider="sso", error_msg="gone"), "the session has ended: sign in again"),
        (aws.PartialCredentialsError(provider="env", cred_var="X"), "the credentials can't be read: mend the profile"),
        (aws.NoRegionError(), "there is no region: set --region or AWS_REGION"),
        (aws.InvalidRegionError(region_name="x_y"), "'x_y' doesn't match a supported format: set --region"),
        (
            aws.EndpointConnectionError(endpoint_url="http://x"),
            "AWS can't be reached: look at --region, --endpoint-url",
        ),
        (aws.ConnectTimeoutError(endpoint_url="http://x"), "AWS can't be reached: look at"),
        (answer("ExpiredToken"), "the credentials have expired: sign in again (no)"),
        (answer("ExpiredTokenException"), "the credentials have expired"),
        (answer("UnrecognizedClientException"), "AWS doesn't know these credentials: sign in again"),
        (answer("AccessDeniedException"), "reading the ledger is denied: use credentials of the management account"),
        (answer("ThrottlingException"), "reading the ledger: ThrottlingException: no"),
        (aws.ReadTimeoutError(endpoint_url="http://x"), "reading the ledger: Read timeout"),
        (SettingsError("THREADS is 'x'"), "THREADS is 'x'"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, sentence: str) -> None:
    assert sentence in explained(error, DOING)
    with pytest.raises(CommandError) as ended, told(DOING):
        raise error
    assert str(ended.value) == explained(error, DOING)
    assert "\n" not in str(ended.value)


def test_what_the_core_translated_is_told_as_aws_said_it() -> None:
    translated = TerminalError(Reason.ACCESS_DENIED, "listing: AccessDenied: no")
    translated.__cause__ = answer("AccessDenied")
    assert explained(translated, DOING).startswith("reading the ledger is denied")


def test_other_errors_are_faults_and_stay_what_they_are() -> None:
    with pytest.raises(KeyError), told(DOING):
        raise KeyError
