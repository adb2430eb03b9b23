"""A session with a source principal's credentials, which signs all calls of the test."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ProfileNotFound

from rolecall.aws_errors import config_file, translate_errors
from rolecall.clients import ClientFactory
from rolecall.errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

SESSION_NAME = "rolecall-prove"
"""The name of every session of the test, by which CloudTrail shows them."""

THREADS = 16
_CONFIG = Config(
    max_pool_connections=THREADS,
    user_agent_extra=SESSION_NAME,
    connect_timeout=10,
    read_timeout=30,
)


class SourceSession:
    """Creates clients with a source principal's credentials, or with those of a session that it opened."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None = None) -> None:
        """Take the source principal's session, in the region of the stage."""
        self.client = ClientFactory(session, endpoint_url, _CONFIG)
        with translate_errors("reading the source principal of the credentials"):
            caller = self.client("sts").get_caller_identity()
        self.arn, self.user_id = caller["Arn"], caller["UserId"]

    @classmethod
    def connect(
        cls,
        *,
        profile: str | None,
        region: str,
        endpoint_url: str | None,
        role_arn: str | None = None,
        prepare: Callable[[boto3.Session], boto3.Session] = lambda session: session,
    ) -> "SourceSession":
        """Open a session with a profile's credentials, or with those of a role that they may assume.

        `prepare` is called with each session before its first call.
        """
        try:
            session = prepare(boto3.Session(profile_name=profile, region_name=region))
        except ProfileNotFound as error:
            raise CommandError(f"{error}: set --reader-profile to a profile of {config_file()}") from None
        if role_arn is None:
            return cls(session, endpoint_url)
        sts = ClientFactory(session, endpoint_url, _CONFIG)("sts")
        with translate_errors(f"assuming the source principal {role_arn}"):
            keys = sts.assume_role(RoleArn=role_arn, RoleSessionName=SESSION_NAME)["Credentials"]
        return cls(prepare(_session(keys, region)), endpoint_url)


def _session(keys: "CredentialsTypeDef", region: str) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
        region_name=region,
    )
