"""The composition root: builds settings, clients and parts, each on first use.

What enroll and on_account_event don't need is imported on first use, too: that is a third of Rolecall's own import time.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.aws.queues import AccountsQueue, NoPublishQueue, PublishQueue
from chalicelib.aws.sessions import (
    Sessions,
    account_client,
    client_config,
    invoke_config,
    models_loading,
    publish_config,
)
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.aws.stacks import Stacks
from chalicelib.checked_settings import checked_settings
from chalicelib.enqueue import enqueue_accounts
from chalicelib.enrollment import Enrollment
from chalicelib.errors import RequestError
from chalicelib.reconciler import Reconciler
from chalicelib.requests import Selection, read_freeze, read_request

if TYPE_CHECKING:
    from chalicelib.publisher import Publisher
    from chalicelib.sweep.preview import Preview
    from chalicelib.sweep.sweep import Sweep


class Application:
    """The functions' parts, each built when a function first needs it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        session: boto3.Session,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take the function's environment and session, and its sources of time and threads."""
        self._environ = environ
        self._session = session
        self._clock = clock
        self._pause = pause
        self._pool = pool
        self._settings = checked_settings(environ)

    def enqueue(self, event: dict[str, Any]) -> None:
        """Send an event's accounts to the queue, and record changes of control policies."""
        enqueue_accounts(event, self._settings.tag_keys, self._accounts_queue, lambda: self._table, self._now)

    def enroll(self, records: list[dict[str, Any]], context: Any) -> dict[str, Any]:
        """Handle a batch off the accounts queue within the function's remaining time."""
        return self._enrollment(records, deadline=self._deadline(context))

    def publish(self, records: list[dict[str, Any]], context: Any) -> dict[str, Any]:
        """Write the source policy that the ledger grants."""
        return self._publisher(records, owner=context.aws_request_id, deadline=self._deadline(context))

    def backfill(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Send the organization's accounts to the queue, or plan them."""
        return self._sweep.backfill(read_request(event, Selection.ALL), deadline=self._deadline(context))

    def rerun(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Send failed accounts again."""
        return self._sweep.rerun(read_request(event, Selection.FAILED), deadline=self._deadline(context))

    def resync(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Send accounts to be verified, and request a check of the source policy."""
        return self._sweep.resync(read_request(event, Selection.ALL), deadline=self._deadline(context))

    def retire(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Retire accounts, or uninstall."""
        from chalicelib.offboarding import Offboarding

        request = read_request(event, Selection.ALL)
        if "accounts" not in event:
            raise RequestError("retire needs accounts: a list of account ids, or all")
        offboarding = Offboarding(
            self._settings,
            self._ledger,
            self._table,
            self._accounts_queue,
            self._publish_requests,
            self._preview,
            self._clock,
        )
        return offboarding.retire(request, deadline=self._deadline(context))

    def freeze(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Freeze or unfreeze the source policy."""
        from chalicelib.aws.functions import PublishFunction
        from chalicelib.offboarding import Freeze

        frozen = read_freeze(event)
        function = PublishFunction(self._client("lambda", invoke_config()), self._environ["PUBLISH_FUNCTION"])
        freeze = Freeze(self._settings, self._table, self._publish_queue, function, self._clock, self._pause)
        return freeze(frozen=frozen, deadline=self._deadline(context))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _deadline(self, context: Any) -> float:
        return self._clock() + float(context.get_remaining_time_in_millis()) / 1000

    @cached_property
    def _accounts_queue(self) -> AccountsQueue:
        queue_url, dead_letter_arn = self._environ["QUEUE_URL"], self._environ["DEAD_LETTER_QUEUE_ARN"]
        return AccountsQueue(self._sqs, queue_url, dead_letter_arn, lambda: self._pool(self._settings.threads))

    @cached_property
    def _publish_queue(self) -> PublishQueue:
        queue_url, dead_letter_arn = self._environ["PUBLISH_QUEUE_URL"], self._environ["PUBLISH_DEAD_LETTER_QUEUE_ARN"]
        return PublishQueue(self._sqs, queue_url, dead_letter_arn)

    @property
    def _publish_requests(self) -> PublishQueue | NoPublishQueue:
        return self._publish_queue if self._settings.keeps_source_policy else NoPublishQueue()

    @cached_property
    def _enrollment(self) -> Enrollment:
        return Enrollment(
            settings=self._settings,
            reconciler=self._reconciler,
            ledger=self._ledger,
            table=self._table,
            accounts=self._accounts_queue,
            publish=self._publish_requests,
            clock=self._clock,
            pool=self._pool,
        )

    @cached_property
    def _publisher(self) -> "Publisher":
        from chalicelib.aws.iam_policies import IamPolicies
        from chalicelib.publisher import Publisher

        # No call may take longer than the run lease.
        config = publish_config(self._settings.threads)
        table = SourcePolicyTable(
            self._settings, self._client("dynamodb", config), self._environ["SOURCE_POLICY_TABLE"]
        )
        sessions = Sessions(self._settings, self._client("sts", config))
        return Publisher(
            settings=self._settings,
            table=table,
            ledger=self._ledger,
            policies=lambda settings, before_write: IamPolicies(settings, sessions, self._source_iam, before_write),
            queue=self._publish_queue,
            organization_id=self._organization.organization_id,
            clock=self._clock,
            pool=self._pool,
        )

    @cached_property
    def _sweep(self) -> "Sweep":
        from chalicelib.sweep.sweep import Sweep

        return Sweep(
            self._settings,
            self._organization,
            self._ledger,
            self._table,
            self._accounts_queue,
            self._publish_requests,
            self._preview,
            self._clock,
        )

    @cached_property
    def _preview(self) -> "Preview":
        from chalicelib.sweep.preview import Preview

        return Preview(
            self._settings, self._ledger, self._table, self._reconciler, self._sessions, self._clock, self._pool
        )

    @cached_property
    def _reconciler(self) -> Reconciler:
        roles = IamRoles(self._iam)
        return Reconciler(
            self._settings,
            self._organization,
            self._sessions,
            roles,
            Stacks(self._stack_clients),
            self._now,
        )

    @cached_property
    def _table(self) -> SourcePolicyTable:
        return SourcePolicyTable(self._settings, self._dynamodb, self._environ["SOURCE_POLICY_TABLE"])

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._dynamodb, self._environ["LEDGER_TABLE"])

    @cached_property
    def _organization(self) -> Organization:
        return Organization(
            self._settings, self._client("organizations"), lambda: self._client("resourcegroupstaggingapi")
        )

    @cached_property
    def _sessions(self) -> Sessions:
        return Sessions(self._settings, self._client("sts"))

    @cached_property
    def _iam(self) -> Any:
        with models_loading():
            return account_client(self._session, "iam", self._config)

    @cached_property
    def _source_iam(self) -> Any:
        with models_loading():
            return account_client(self._session, "iam", publish_config(self._settings.threads))

    def _stack_clients(self) -> dict[str, Any]:
        regions = self._session.get_available_regions("cloudformation", partition_name=self._settings.partition)
        return {region: account_client(self._session, "cloudformation", self._config, region) for region in regions}

    @cached_property
    def _sqs(self) -> Any:
        return self._client("sqs")

    @cached_property
    def _dynamodb(self) -> Any:
        return self._client("dynamodb")

    def _client(self, service: str, config: Config | None = None) -> Any:
        make: Any = self._session.client  # whose overloads need a literal
        with models_loading():
            return make(service, config=config or self._config)

    @cached_property
    def _config(self) -> Any:
        return client_config(self._settings.threads)


@cache
def application() -> Application:
    """Return the process's application, built from its environment."""
    return Application(os.environ, boto3.Session())


def announcing(environ: Mapping[str, str], session: boto3.Session) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that announces a batch of the ledger's stream; it reads only the stage and the bus."""
    from chalicelib.announcements import Announcer
    from chalicelib.aws.event_bus import EventBus
    from chalicelib.aws.ledger_stream import row_changes

    with models_loading():
        client = session.client("events", config=client_config(1))
    announcer = Announcer(EventBus(client, environ["EVENT_BUS_NAME"], f"rolecall.{environ['STAGE']}"))
    return lambda records: announcer(row_changes(records))


@cache
def announcer() -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return the process's announcer, built from its environment."""
    return announcing(os.environ, boto3.Session())
