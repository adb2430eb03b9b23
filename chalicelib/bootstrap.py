"""The composition root: the one place where settings, clients and parts are put together, on first use."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
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
from chalicelib.aws.sessions import Sessions, account_client, client_config, models_loading
from chalicelib.aws.shards import ShardTable
from chalicelib.aws.source_policies import SourcePolicies
from chalicelib.enroll import Enroll
from chalicelib.errors import RequestError
from chalicelib.pen import Pen
from chalicelib.reconcile import Reconcile
from chalicelib.requests import Selection, read_freeze, read_request
from chalicelib.settings import Settings
from chalicelib.sweep import Sweep
from chalicelib.withdraw import Withdraw


def checked_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings and check that what follows from them fits AWS's limits; a SettingsError says what to mend."""
    settings = Settings.from_env(environ)
    member_role.check_sizes(settings)
    source_policy.check_sizes(settings)
    return settings


class Application:
    """Everything that the functions are made of; each part is made when a function first needs it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        session: boto3.Session,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take the function's environment, the session that its own role signs for, and what time and threads are here."""
        self._environ = environ
        self._session = session
        self._clock = clock
        self._pause = pause
        self._pool = pool
        self._settings = checked_settings(environ)

    def announce(self, event: dict[str, Any]) -> None:
        """Send an event's accounts to the queue."""
        announce(event, self._queue)

    def enroll(self, records: list[dict[str, Any]], context: Any) -> dict[str, Any]:
        """Handle a batch off the queue within the function's remaining time."""
        return self._enroll(records, owner=context.aws_request_id, deadline=self._deadline(context))

    def backfill(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Send the organization's accounts to the queue, or plan them."""
        return self._sweep.backfill(read_request(event, Selection.ALL), deadline=self._deadline(context))

    def rerun(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Send failed accounts again."""
        return self._sweep.rerun(read_request(event, Selection.FAILED), deadline=self._deadline(context))

    def resync(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Verify the organization and the source policy."""
        request = read_request(event, Selection.ALL)
        return self._sweep.resync(request, owner=context.aws_request_id, deadline=self._deadline(context))

    def retire(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Take accounts out for good."""
        request = read_request(event, Selection.ALL)
        if "accounts" not in event:
            raise RequestError("retire needs the accounts that it is to retire")
        return self._withdraw.retire(request, owner=context.aws_request_id, deadline=self._deadline(context))

    def freeze(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Freeze or unfreeze the source policy."""
        frozen = read_freeze(event)
        return self._withdraw.freeze(frozen=frozen, owner=context.aws_request_id, deadline=self._deadline(context))

    def _deadline(self, context: Any) -> float:
        return self._clock() + float(context.get_remaining_time_in_millis()) / 1000

    @cached_property
    def _queue(self) -> Queue:
        queue_url, dead_letter_arn = self._environ["QUEUE_URL"], self._environ["DEAD_LETTER_QUEUE_ARN"]
        return Queue(self._client("sqs"), queue_url, dead_letter_arn, lambda: self._pool(self._settings.threads))

    @cached_property
    def _enroll(self) -> Enroll:
        return Enroll(
            reconcile=self._reconcile,
            pen=self._pen,
            ledger=self._ledger,
            queue=self._queue,
            threads=self._settings.threads,
            clock=self._clock,
            pool=self._pool,
        )

    @cached_property
    def _sweep(self) -> Sweep:
        return Sweep(
            self._settings,
            self._organization,
            self._ledger,
            self._queue,
            self._pen,
            self._reconcile,
            self._clock,
            self._pool,
        )

    @cached_property
    def _withdraw(self) -> Withdraw:
        return Withdraw(self._ledger, self._queue, self._pen, self._sweep, self._clock)

    @cached_property
    def _reconcile(self) -> Reconcile:
        roles = MemberRoles(self._iam, self._settings.member_role_name)
        return Reconcile(
            self._settings,
            self._organization,
            self._sessions,
            roles,
            lambda: datetime.fromtimestamp(self._clock(), UTC),
        )

    @cached_property
    def _pen(self) -> Pen:
        table = ShardTable(self._settings, self._dynamodb, self._environ["SOURCE_POLICY_TABLE"])
        policies = SourcePolicies(self._settings, self._sessions, self._iam)
        return Pen(self._settings, table, policies, self._organization.organization_id, self._clock, self._pause)

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._dynamodb, self._environ["LEDGER_TABLE"])

    @cached_property
    def _organization(self) -> Organization:
        return Organization(self._settings, self._client("organizations"))

    @cached_property
    def _sessions(self) -> Sessions:
        return Sessions(self._settings, self._client("sts"))

    @cached_property
    def _iam(self) -> Any:
        with models_loading():
            return account_client(self._session, "iam", self._config)

    @cached_property
    def _dynamodb(self) -> Any:
        return self._client("dynamodb")

    def _client(self, service: str) -> Any:
        make: Any = self._session.client  # whose overloads want to know the service
        with models_loading():
            return make(service, config=self._config)

    @cached_property
    def _config(self) -> Any:
        return client_config(self._settings.threads)


@cache
def application() -> Application:
    """Put the application together once a process, from its environment."""
    return Application(os.environ, boto3.Session())
