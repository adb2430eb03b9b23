"""A deployed stage: its settings, tables, functions, queues, alarms and logs."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from chalicelib.accounts import Account, LedgerRow
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import Records
from rolecall import __version__
from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.console import counted, is_time
from rolecall.errors import CommandError, FunctionError, NotDeployedError
from rolecall.organization_units import Unit, read_units
from rolecall.stages import deploy_command

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

_MAX_FUNCTION_SECONDS = 900  # the longest timeout of a function ("Lambda quotas")
LOG_WINDOW = timedelta(days=14)
"""How far back log lines are searched."""

_TIMES = ("in_force_since", "failed_at", "joined_at", "enrolled_at", "retirement_requested_at", "updated_at")
ANNOUNCER = "announce_outcome"
ANNOUNCEMENTS_DEAD_LETTER_QUEUE = "announcements-dlq"
"""The function and the queue that only a stage with an event bus has."""
FUNCTIONS = ("on_account_event", "enroll", "publish", "backfill", "rerun", "resync", "retire", "freeze", ANNOUNCER)
DEAD_LETTER_QUEUES = ("accounts-dlq", "publish-dlq.fifo", "events-dlq", ANNOUNCEMENTS_DEAD_LETTER_QUEUE)
WORK_QUEUES = ("accounts", "publish.fifo")
ALARMS = (
    *("dead-letters", "accounts-need-attention", "queue-age", "function-errors", "invocations-throttled"),
    *("rules-failed", "source-policy-full", "resync-missing", "publishing-blocked", "access-slow"),
)
"""Each has a section in docs/runbook.md."""
OPTIONAL_ALARMS = ("tripwire",)
"""Each has a section, too, and exists with its setting."""

_ONLY_WITH_SOURCE_POLICY = frozenset(
    {"publish", "freeze", "publish.fifo", "publish-dlq.fifo", "source-policy-full", "publishing-blocked"}
)
"""The functions, queues and alarms that scope none does without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueCounts:
    """A queue's number of messages: visible, in flight or returned with a delay, and sent with a delay."""

    name: str
    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All messages of the queue."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """One of the stage's alarms; `state` is OK, ALARM or INSUFFICIENT_DATA, and `notifies` whether its actions are enabled."""

    name: str
    state: str
    description: str
    since: datetime
    notifies: bool = True


class Stage:
    """Reads a stage and invokes its functions with the operator's credentials. Every failure is a CommandError."""

    def __init__(
        self,
        name: str,
        session: boto3.Session,
        endpoint_url: str | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Take the stage's name and a session in the management account and the region of the deployment.

        `warn` is called if the stage was deployed with another version, once that is known.
        """
        self.name = name
        self.region = str(session.region_name)
        self.client = ClientFactory(session, endpoint_url)
        self._warn = warn
        self._unreadable: dict[AccountId, str] = {}

    def resource_name(self, name: str) -> str:
        """Return the deployed name of a function, queue, rule or alarm."""
        return f"rolecall-{self.name}-{name}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the functions. Raise NotDeployedError if the stage is not deployed here."""
        environment = self.configuration["Environment"]
        if (
            "Variables" not in environment
        ):  # Lambda returns an error in their place to a caller who may not decrypt them.
            why = environment.get("Error", {}).get("Message", "it returned none")
            raise CommandError(
                f"Lambda did not return the settings of stage {self.name}: {why}. With KmsKeyArn, allow kms:Decrypt on the key "
                "(docs/deploy.md#your-own-key)"
            )
        return environment["Variables"]

    @cached_property
    def configuration(self) -> "FunctionConfigurationResponseTypeDef":
        """The configuration of enroll. Raise NotDeployedError if the stage is not deployed here."""
        # The first call of every command: without a connection it fails soon.
        config = Config(connect_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
        functions = self.client("lambda", config)
        with translate_errors(f"reading the settings of {self.resource_name('enroll')}"):
            try:
                configuration = functions.get_function_configuration(FunctionName=self.resource_name("enroll"))
            except functions.exceptions.ResourceNotFoundException:
                raise NotDeployedError(
                    f"stage {self.name} is not deployed in {self.region} of account {self.account_id}: check --stage, --region "
                    f"and --profile, or deploy it: {deploy_command(self.name)}"
                ) from None
        version = _version(configuration)
        if self._warn and version not in {None, __version__}:
            self._warn(
                f"stage {self.name} was deployed with version {version}, and this is {__version__}: install that version, or upgrade "
                f"the stage with rolecall deploy {self.name}"
            )
        return configuration

    def summary(self) -> dict[str, Any]:
        """Return the stage's name, region, version and time of deployment, the last two null if it lacks functions."""
        try:
            version, deployed_at = _version(self.configuration), self.configuration["LastModified"]
        except NotDeployedError:
            version, deployed_at = None, None
        return {"stage": self.name, "region": self.region, "version": version, "deployed_at": deployed_at}

    @property
    def event_bus_name(self) -> str:
        """The event bus on which outcomes are announced, or an empty string."""
        return self.environment.get("EVENT_BUS_NAME", "")

    @property
    def functions(self) -> list[str]:
        """The names of the functions, without the stage."""
        return list(self.deployed(FUNCTIONS))

    @cached_property
    def settings(self) -> Settings:
        """The deployed settings."""
        with translate_errors("reading the stage's settings"):
            return Settings.from_env(self.environment)

    @property
    def keeps_source_policy(self) -> bool:
        """Whether there is a source policy, even if another setting is invalid."""
        return self.environment.get("SOURCE_POLICY_SCOPE") != Scope.NONE

    def deployed(self, names: Collection[str]) -> tuple[str, ...]:
        """Return which of some functions, queues or alarms are part of the stage."""
        left_out = set[str]() if self.keeps_source_policy else set(_ONLY_WITH_SOURCE_POLICY)
        left_out |= set() if self.event_bus_name else {ANNOUNCER, ANNOUNCEMENTS_DEAD_LETTER_QUEUE}
        return tuple(name for name in names if name not in left_out)

    @cached_property
    def account_id(self) -> str:
        """The account of the credentials."""
        with translate_errors("reading the account of the credentials"):
            return self.client("sts").get_caller_identity()["Account"]

    def rows(self) -> list[LedgerRow]:
        """Return the ledger's rows, sorted by account id."""
        with translate_errors("reading the ledger"):
            return sorted(map(self._checked, self._ledger.rows()), key=lambda row: row.account_id)

    def row(self, account_id: AccountId) -> LedgerRow | None:
        """Return an account's row, or None if it has none."""
        return self.rows_of([account_id]).get(account_id)

    def rows_of(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        """Return the rows of some accounts. Accounts without a row are omitted."""
        with translate_errors("reading the ledger"):
            return {row.account_id: self._checked(row) for row in self._ledger.read(account_ids).values()}

    def _checked(self, row: LedgerRow) -> LedgerRow:
        for name in _TIMES:
            written = getattr(row, name)
            if written and not is_time(written):
                self._unreadable[row.account_id] = f"{name} is {written!r}"
        return row

    def require_readable_rows(self) -> None:
        """Raise CommandError if a row that was read has a time that can't be parsed. Commands call it after their output."""
        if self._unreadable:
            account_id, found = min(self._unreadable.items())
            raise CommandError(
                f"{counted(len(self._unreadable), 'row')} of the ledger can't be read completely, such as that of {account_id}, whose "
                f"{found}: delete this attribute of the row, or correct it"
            )

    def records(self) -> Records:
        """Return the items of the source-policy table."""
        with translate_errors("reading the source-policy table"):
            return SourcePolicyTable(self.settings, self._dynamodb, self.environment["SOURCE_POLICY_TABLE"]).load()

    @property
    def _organization(self) -> Organization:
        tagging = partial(self.client, "resourcegroupstaggingapi")
        return Organization(self.settings, self.client("organizations"), tagging)

    def accounts(self) -> list[Account]:
        """Return the organization's accounts, with the organizational units above each."""
        with translate_errors("listing the organization's accounts"):
            return list(self._organization.accounts(by_ou=True))

    def units(self) -> dict[str, Unit]:
        """Return the organization's roots and organizational units by their ids."""
        return read_units(self.client("organizations"))

    def account(self, account_id: AccountId) -> Account | None:
        """Return an account, or None if it is not a member of the organization."""
        with translate_errors(f"describing account {account_id}"):
            return self._organization.describe(account_id)

    def invoke(self, function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Invoke a function once and return its response. Raise FunctionError if it fails or rejects the request."""
        config = Config(read_timeout=_MAX_FUNCTION_SECONDS + 20, retries={"total_max_attempts": 1})
        functions, name = self.client("lambda", config), self.resource_name(function)
        with translate_errors(f"invoking {name}"):
            try:
                response = functions.invoke(FunctionName=name, Payload=json.dumps(request).encode())
            except functions.exceptions.ResourceNotFoundException:
                _ = self.environment  # Raises NotDeployedError if the whole stage is missing.
                raise
            payload: dict[str, Any] | None = json.loads(response["Payload"].read() or "null")
        if "FunctionError" in response:
            raise FunctionError(f"{name} failed: {(payload or {}).get('errorMessage', 'no message')}")
        if payload and "errorMessage" in payload:
            raise FunctionError(f"{name} rejected the request: {payload['errorMessage']}")
        return payload or {}

    def queues(self) -> list[QueueCounts]:
        """Return the message counts of the queues and the dead-letter queues."""
        sqs = self.client("sqs")
        names = [*WORK_QUEUES, *DEAD_LETTER_QUEUES]
        found = []
        for name in self.deployed(names):
            with translate_errors(f"counting the messages of {self.resource_name(name)}"):
                url = sqs.get_queue_url(QueueName=self.resource_name(name))["QueueUrl"]
                attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            found.append(
                QueueCounts(
                    name=name,
                    visible=int(attributes["ApproximateNumberOfMessages"]),
                    in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
                    delayed=int(attributes["ApproximateNumberOfMessagesDelayed"]),
                )
            )
        return found

    def alarms(self) -> list[Alarm]:
        """Return the stage's alarms."""
        with translate_errors("reading the alarms"):
            return [
                Alarm(
                    name=alarm["AlarmName"],
                    state=alarm["StateValue"],
                    description=alarm.get("AlarmDescription", ""),
                    since=alarm.get("StateUpdatedTimestamp") or datetime.now(UTC),
                    notifies=alarm.get("ActionsEnabled", True),
                )
                for alarm in self.described_alarms().values()
            ]

    def described_alarms(self) -> "dict[str, MetricAlarmTypeDef]":
        """Return what CloudWatch returns of the stage's alarms, by name without the stage; missing ones are omitted."""
        # By their full names: the prefix of one stage may begin the name of another.
        names = {self.resource_name(name): name for name in (*ALARMS, *OPTIONAL_ALARMS)}
        found = self.client("cloudwatch").describe_alarms(AlarmNames=list(names))["MetricAlarms"]
        return {names[alarm["AlarmName"]]: alarm for alarm in found}

    def log_lines(
        self, function: str, pattern: str, *, since: timedelta = LOG_WINDOW
    ) -> Iterator[tuple[datetime, dict[str, Any]]]:
        """Yield the times and fields of a function's structured log lines that match a filter pattern, oldest first.

        The times are those of CloudWatch Logs. A function that was never invoked may have no log group.
        """
        logs, name = self.client("logs"), self.resource_name(function)
        start = int((datetime.now(UTC) - since).timestamp() * 1000)
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{name}", startTime=start, filterPattern=pattern
        )
        with translate_errors(f"reading the log of {name}"), suppress(logs.exceptions.ResourceNotFoundException):
            for page in pages:
                for event in page.get("events", []):
                    fields = parse_log_line(event["message"])
                    if fields is not None:
                        yield datetime.fromtimestamp(event["timestamp"] / 1000, UTC), fields

    @cached_property
    def _dynamodb(self) -> "DynamoDBClient":
        return self.client("dynamodb")

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._dynamodb, self.environment["LEDGER_TABLE"])


def _version(configuration: "FunctionConfigurationResponseTypeDef") -> str | None:
    """Return the version that a function was deployed with, or None if its description has none."""
    name, _, version = configuration.get("Description", "").partition(" ")
    return version if name == "Rolecall" else None


def parse_log_line(message: str) -> dict[str, Any] | None:
    """Parse a structured log line, or return None for any other, such as a line of Lambda or one that was cut."""
    try:
        fields = json.loads(message)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
