"""AWS clients with the operator's or a source principal's credentials, for one region and endpoint."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import InvalidRegionError, NoRegionError

from rolecall.aws_errors import WebPageError, translate_errors
from rolecall.errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudtrail import CloudTrailClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 6})
_WEB_PAGES = (b"<!doctype html", b"<html")
_SERVER_ERROR = 500


class ClientFactory:
    """Creates clients; safe to share between threads."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None = None, config: Config | None = None) -> None:
        """Take the session whose credentials sign the calls, and a config that extends the default one."""
        self._session = session
        self._endpoint_url = endpoint_url
        self._config = _CONFIG.merge(config) if config else _CONFIG
        self._lock = threading.Lock()

    @overload
    def __call__(self, service: Literal["cloudformation"]) -> "CloudFormationClient": ...
    @overload
    def __call__(self, service: Literal["cloudtrail"], config: Config | None = None) -> "CloudTrailClient": ...
    @overload
    def __call__(self, service: Literal["cloudwatch"]) -> "CloudWatchClient": ...
    @overload
    def __call__(self, service: Literal["dynamodb"]) -> "DynamoDBClient": ...
    @overload
    def __call__(self, service: Literal["events"]) -> "EventBridgeClient": ...
    @overload
    def __call__(self, service: Literal["iam"], *, keys: "CredentialsTypeDef | None" = None) -> "IAMClient": ...
    @overload
    def __call__(self, service: Literal["kms"]) -> Any: ...  # noqa: ANN401 - has no stubs here
    @overload
    def __call__(self, service: Literal["lambda"], config: Config | None = None) -> "LambdaClient": ...
    @overload
    def __call__(self, service: Literal["logs"]) -> "CloudWatchLogsClient": ...
    @overload
    def __call__(self, service: Literal["organizations"]) -> "OrganizationsClient": ...
    @overload
    def __call__(self, service: Literal["resourcegroupstaggingapi"]) -> BaseClient: ...
    @overload
    def __call__(self, service: Literal["s3"]) -> "S3Client": ...
    @overload
    def __call__(self, service: Literal["sns"]) -> "SNSClient": ...
    @overload
    def __call__(self, service: Literal["sqs"]) -> "SQSClient": ...
    @overload
    def __call__(self, service: Literal["ssm"], *, keys: "CredentialsTypeDef | None" = None) -> "SSMClient": ...
    @overload
    def __call__(self, service: Literal["sts"]) -> "STSClient": ...
    def __call__(
        self, service: str, config: Config | None = None, *, keys: "CredentialsTypeDef | None" = None
    ) -> BaseClient:
        """Create a client; `keys` replace the session's own credentials. Raise CommandError for an invalid endpoint."""
        with translate_errors("creating a client"), self._lock:  # a boto3 session isn't thread-safe
            _load_credentials(self._session)
            try:
                client: BaseClient = self._session.client(  # type: ignore[call-overload] # the overloads above replace boto3's
                    service,
                    endpoint_url=self._endpoint_url,
                    config=self._config.merge(config) if config else self._config,
                    aws_access_key_id=keys and keys["AccessKeyId"],
                    aws_secret_access_key=keys and keys["SecretAccessKey"],
                    aws_session_token=keys and keys["SessionToken"],
                )
            except InvalidRegionError:
                raise
            except NoRegionError:
                if self._session.get_credentials() is None:
                    raise CommandError(
                        "no region configured and no AWS credentials found: set AWS_PROFILE or --profile, and --region or AWS_REGION "
                        "to the region of the deployment, or sign in with aws sso login"
                    ) from None
                raise
            except ValueError as error:
                raise CommandError(
                    f"{error}: --endpoint-url and AWS_ENDPOINT_URL take a URL such as http://localhost:4566"
                ) from None
        client.meta.events.register("before-parse", _reject_web_page)
        return client


def _load_credentials(session: boto3.Session) -> None:
    """Load a session's credentials, once. Raise CommandError if that fails in a way that botocore doesn't translate."""
    try:
        session.get_credentials()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CommandError(
            "the credentials can't be read: correct the profile, whose credential_process has to print JSON, or set --profile "
            f"to another one ({error})"
        ) from None


def _reject_web_page(response_dict: Mapping[str, Any], **_: object) -> None:
    """Raise WebPageError for a page of HTML, which botocore would parse as a response without content.

    botocore retries a server error, whatever its content is.
    """
    body = response_dict["body"]
    beginning = body.lstrip()[: len(_WEB_PAGES[0])].lower() if isinstance(body, bytes) else b""
    is_page = response_dict["headers"].get("content-type", "").startswith("text/html") or beginning.startswith(
        _WEB_PAGES
    )
    if is_page and response_dict["status_code"] < _SERVER_ERROR:
        raise WebPageError(status=response_dict["status_code"])
