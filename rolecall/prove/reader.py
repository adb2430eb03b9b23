"""The reader: whose credentials the proofs are made with, and nothing else."""

import threading
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ProfileNotFound

from rolecall.errors import CommandError
from rolecall.stage import told

SESSION_NAME = "rolecall-prove"
"""The name of every session that a proof opens, by which CloudTrail tells them."""

THREADS = 16
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    max_pool_connections=THREADS,
    user_agent_extra=SESSION_NAME,
    connect_timeout=10,
    read_timeout=30,
)


class Reader:
    """Makes clients that sign as the reader, or with a session that the reader has opened."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None = None) -> None:
        """Take the reader's session, in the region of the stage."""
        self._session = session
        self._endpoint_url = endpoint_url
        self._making = threading.Lock()
        with told("asking whose credentials the reader's are"):
            caller = self.client("sts").get_caller_identity()
        self.arn: str = caller["Arn"]
        self.user_id: str = caller["UserId"]

    @classmethod
    def connect(
        cls, *, profile: str | None, region: str, endpoint_url: str | None, role_arn: str | None = None
    ) -> "Reader":
        """Open the reader's session by a profile, or by the role that this profile's credentials may assume."""
        try:
            session = boto3.Session(profile_name=profile, region_name=region)
        except ProfileNotFound as error:
            raise CommandError(f"{error}: name one of ~/.aws/config by --reader") from None
        if role_arn is None:
            return cls(session, endpoint_url)
        with told(f"becoming the reader {role_arn}"):
            sts = session.client("sts", endpoint_url=endpoint_url, config=_CONFIG)
            keys = sts.assume_role(RoleArn=role_arn, RoleSessionName=SESSION_NAME)["Credentials"]
        return cls(
            boto3.Session(
                aws_access_key_id=keys["AccessKeyId"],
                aws_secret_access_key=keys["SecretAccessKey"],
                aws_session_token=keys["SessionToken"],
                region_name=region,
            ),
            endpoint_url,
        )

    def client(self, service: str, keys: Mapping[str, str] | None = None) -> Any:
        """Make a client that signs as the reader, or with the keys of a session."""
        given = keys or {}
        with self._making:  # A boto3 session makes no two clients at once.
            return self._session.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self._endpoint_url,
                config=_CONFIG,
                aws_access_key_id=given.get("AccessKeyId"),
                aws_secret_access_key=given.get("SecretAccessKey"),
                aws_session_token=given.get("SessionToken"),
            )
