"""Errors of AWS and of the core as one sentence for the operator: what failed, and what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, which isn't a subclass of Python's
    CredentialRetrievalError,
    InvalidRegionError,
    LoginError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from chalicelib.errors import RolecallError, SettingsError
from rolecall.errors import CommandError, DeniedError, InvalidSettingsError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_REJECTED = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "AuthFailure",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
"""The error codes of a denied call."""


_MAX_MESSAGE_CHARS = 500


class WebPageError(BotoCoreError):
    """A proxy, a sign-in page or another server answered in place of AWS."""

    fmt = "the response is a page of HTML, not one of AWS (status {status}): check the proxy (HTTPS_PROXY, NO_PROXY) and --endpoint-url"


@contextmanager
def translate_errors(activity: str) -> Iterator[None]:
    """Raise a CommandError for an error of AWS or of the core; `activity` is what failed, such as "reading the ledger"."""
    try:
        yield
    except (BotoCoreError, ClientError, RolecallError) as error:
        raise command_error(error, activity) from None


def command_error(error: Exception, activity: str) -> CommandError:
    """Return the CommandError for an error of AWS or of the core."""
    message = error_message(error, activity)
    if isinstance(error, SettingsError):
        return InvalidSettingsError(message)
    cause = error.__cause__ if isinstance(error, RolecallError) else error
    denied = isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in DENIED
    return DeniedError(message) if denied else CommandError(message)


def error_message(error: Exception, activity: str) -> str:
    """Return one sentence with what failed and what to do."""
    match error:
        case RolecallError():
            # The core's adapters raise their own errors from AWS's.
            cause = error.__cause__
            return error_message(cause, activity) if isinstance(cause, BotoCoreError | ClientError) else str(error)
        case ClientError():
            return _client_error_message(error, activity)
        case ProfileNotFound():
            return f"{error}: set --profile or AWS_PROFILE to a profile of {config_file()}"
        case NoCredentialsError():
            return "no AWS credentials found: set AWS_PROFILE or --profile, or sign in with aws sso login"
        case SSOError() | LoginError() | TokenRetrievalError():
            return f"the session has expired: sign in again with aws sso login or aws login ({error})"
        case PartialCredentialsError() | CredentialRetrievalError():
            return f"the credentials can't be read: fix the profile or set --profile to another one ({error})"
        case NoRegionError():
            return "no region configured: set --region or AWS_REGION to the region of the deployment"
        case InvalidRegionError():
            return f"{str(error).rstrip('.')}: set --region or AWS_REGION to the region of the deployment"
        case ConnectionError():
            return f"can't connect to AWS: check --region, --endpoint-url and the network ({error})"
    return f"{activity}: {_shortened(str(error))}"


def config_file() -> str:
    """Return the name of the file with the profiles."""
    return os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")


def _shortened(message: str) -> str:
    """Return a message on one line; botocore's may contain a whole response, such as a page of HTML."""
    line = " ".join(message.split())
    return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[:_MAX_MESSAGE_CHARS]}…"


def _client_error_message(error: ClientError, activity: str) -> str:
    details = error.response.get("Error", {})
    code, message = details.get("Code", ""), _shortened(details.get("Message", ""))
    if code in _EXPIRED:
        return f"the credentials have expired: sign in again ({message})"
    if code in _REJECTED:
        return (
            "AWS rejected these credentials: sign in again, set --profile to another profile, or --region to a region "
            f"that is enabled ({message})"
        )
    if code in DENIED:
        return f"{activity} is denied: use credentials of the management account with this permission ({message})"
    return f"{activity}: {code}: {message}"
