"""Errors of AWS and of the core end a command with one sentence and what to do."""

import pytest
from botocore import exceptions as aws
from botocore.exceptions import ClientError

from chalicelib.errors import Reason, SettingsError, TerminalError
from rolecall.aws_errors import error_message, translate_errors
from rolecall.errors import CommandError


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Scan")


def translated(code: str) -> TerminalError:
    error = TerminalError(Reason.ACCESS_DENIED, f"listing: {code}: no")
    error.__cause__ = client_error(code)
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (aws.NoCredentialsError(), "no AWS credentials found: set AWS_PROFILE or --profile, or sign in"),
        (aws.ProfileNotFound(profile="x"), "(x) could not be found: set --profile or AWS_PROFILE to a profile"),
        (aws.UnauthorizedSSOTokenError(), "the session has expired: sign in again with aws sso login"),
        (aws.TokenRetrievalError(provider="sso", error_msg="gone"), "the session has expired: sign in again"),
        (aws.PartialCredentialsError(provider="env", cred_var="X"), "the credentials can't be read: fix the profile"),
        (aws.NoRegionError(), "no region configured: set --region or AWS_REGION"),
        (aws.InvalidRegionError(region_name="x_y"), "'x_y' doesn't match a supported format: set --region"),
        (aws.EndpointConnectionError(endpoint_url="http://x"), "can't connect to AWS: check --region, --endpoint-url"),
        (aws.ConnectTimeoutError(endpoint_url="http://x"), "can't connect to AWS: check"),
        (aws.ReadTimeoutError(endpoint_url="http://x"), "reading the ledger: Read timeout"),
        (client_error("ExpiredToken"), "the credentials have expired: sign in again (no)"),
        (client_error("ExpiredTokenException"), "the credentials have expired"),
        (client_error("UnrecognizedClientException"), "AWS rejected these credentials: sign in again"),
        (client_error("AccessDeniedException"), "reading the ledger is denied: use credentials of the management"),
        (client_error("ThrottlingException"), "reading the ledger: ThrottlingException: no"),
        (translated("AccessDenied"), "reading the ledger is denied"),
        (SettingsError("THREADS is 'x'"), "THREADS is 'x'"),
    ],
)
def test_error_becomes_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(CommandError) as raised, translate_errors("reading the ledger"):
        raise error
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_page_of_html_is_shortened() -> None:
    page = f"<html>\n<body>{'x' * 5000}"
    message = error_message(ClientError({"Error": {"Code": "503", "Message": page}}, "Scan"), "reading the ledger")
    assert message.startswith("reading the ledger: 503: <html> <body>xxx")
    assert len(message) < 600


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(KeyError), translate_errors("reading the ledger"):
        raise KeyError
