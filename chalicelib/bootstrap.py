"""The composition root: the one place where settings, clients and parts are put together, on first use."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

import boto3

from chalicelib import member_role, source_policy
from chalicelib.announce import announce
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.member_roles import MemberRoles
from chalicelib.aws.organizations import Organization
from chalicelib.aws.queue import Queue
from chalicelib.aws.sessions import Sessions, account_client, client_config
from chalicelib.aws.shards import ShardTable
from chalicelib.aws.source_policies import SourcePolicies
from chalicelib.enroll import Enroll
from chalicelib.pen import Pen
from chalicelib.reconcile import Reconcile
from chalicelib.settings import Settings


def checked_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings and check that what follows from them fits AWS's limits; a SettingsError says what to mend."""
    settings = Settings.from_env(environ)
    member_role.check_sizes(settings)
    source_policy.check_sizes(settings)
    return settings


class Application:
    """Everything that the functions are made of; each part is made when a function first needs it."""

    def __init__(self, environ: Mapping[str, str], session: boto3.Session) -> None:
        """Take the function's environment and the session that its own role signs for."""
        self._environ = environ
        self._session = session
        self._settings = checked_settings(environ)

    def announce(self, event: dict[str, Any]) -> None:
        """Send an event's accounts to the queue."""
        announce(event, self._queue)

    def enroll(self, records: list[dict[str, Any]], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context
        """Handle a batch off the queue within the function's remaining time."""
        deadline = time.time() + context.get_remaining_time_in_millis() / 1000
        return self._enroll(records, owner=context.aws_request_id, deadline=deadline)

    @cached_property
    def _queue(self) -> Queue:
        return Queue(self._session.client("sqs", config=self._config), self._environ["QUEUE_URL"])

    @cached_property
    def _enroll(self) -> Enroll:
        settings = self._settings
        dynamodb = self._session.resource("dynamodb", config=self._config)
        organization = Organization(settings, self._session.client("organizations", config=self._config))
        sessions = Sessions(settings, self._session.client("sts", config=self._config))
        iam = account_client(self._session, "iam", self._config)
        return Enroll(
            reconcile=Reconcile(
                settings, organization, sessions, MemberRoles(iam, settings.member_role_name), lambda: datetime.now(UTC)
            ),
            pen=Pen(
                settings,
                ShardTable(settings, dynamodb, self._environ["SOURCE_POLICY_TABLE"]),
                SourcePolicies(settings, sessions, iam),
                organization.organization_id,
                time.time,
                time.sleep,
            ),
            ledger=Ledger(dynamodb, self._environ["LEDGER_TABLE"]),
            queue=self._queue,
            threads=settings.threads,
            clock=time.time,
        )

    @cached_property
    def _config(self) -> Any:  # noqa: ANN401 - botocore's Config, which only aws/ imports
        return client_config(self._settings.threads)


@cache
def application() -> Application:
    """Put the application together once a process, from its environment."""
    return Application(os.environ, boto3.Session())
