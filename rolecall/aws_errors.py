"""AWS's errors, and the core's, as one sentence for an operator: what failed, and what to do."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, which Python's own is no part of
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
from rolecall.errors import CommandError, DeniedError, WrongSettingsError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_UNKNOWN = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "AuthFailure",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
"""How services answer a call that is denied."""


def command_error(error: Exception, doing: str) -> CommandError:
    """Make what ends the command of an error of AWS's or of the core's."""
    message = explained(error, doing)
    if isinstance(error, SettingsError):
        return WrongSettingsError(message)
    cause = error.__cause__ if isinstance(error, RolecallError) else error
    denied = isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in DENIED
    return DeniedError(message) if denied else CommandError(message)


def explained(error: Exception, doing: str) -> str:
    """Say what became of `doing`, and what to do about it."""
    match error:
        case RolecallError():
            # An adapter of the core already made it ours: what AWS said is its cause.
            cause = error.__cause__
            return explained(cause, doing) if isinstance(cause, BotoCoreError | ClientError) else str(error)
        case ClientError():
            return _answered(error, doing)
        case ProfileNotFound():
            return f"{error}: name a profile of ~/.aws/config by --profile or AWS_PROFILE"
        case NoCredentialsError():
            return "there are no AWS credentials: set AWS_PROFILE or --profile, or sign in with aws sso login"
        case SSOError() | LoginError() | TokenRetrievalError():
            return f"the session has ended: sign in again with aws sso login or aws login ({error})"
        case PartialCredentialsError() | CredentialRetrievalError():
            return f"the credentials can't be read: mend the profile, or name another by --profile ({error})"
        case NoRegionError():
            return "there is no region: set --region or AWS_REGION to the region of the deployment"
        case InvalidRegionError():
            return f"{str(error).rstrip('.')}: set --region or AWS_REGION to the region of the deployment"
        case ConnectionError():
            return f"AWS can't be reached: look at --region, --endpoint-url and the network ({error})"
    return f"{doing}: {error}"


def _answered(error: ClientError, doing: str) -> str:
    told = error.response.get("Error", {})
    code, message = told.get("Code", ""), told.get("Message", "")
    if code in _EXPIRED:
        return f"the credentials have expired: sign in again ({message})"
    if code in _UNKNOWN:
        return (
            "AWS doesn't know these credentials: sign in again, or name another profile by --profile, "
            f"or a region that is enabled by --region ({message})"
        )
    if code in DENIED:
        return f"{doing} is denied: use credentials of the management account that may do it ({message})"
    return f"{doing}: {code}: {message}"
