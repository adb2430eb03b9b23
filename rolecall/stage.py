"""A deployed stage, as AWS's APIs show it: its settings, tables, functions, queues, alarms and logs."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, InvalidRegionError

from chalicelib.accounts import Account, LedgerRow
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.errors import RolecallError
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.aws_errors import command_error
from rolecall.errors import CommandError, FunctionError, NotDeployedError

_FUNCTION_SECONDS = 900  # a function's longest timeout ("Lambda quotas")
DEAD_LETTER_QUEUES = ("accounts-dlq", "publish-dlq.fifo", "events-dlq")
WORK_QUEUES = ("accounts", "publish.fifo")
_LOG_WINDOW = timedelta(days=14)


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """How many messages a queue holds: to be received, received or returned with a delay, and sent with a delay."""

    name: str
    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """One of the stage's alarms; `state` is OK, ALARM or INSUFFICIENT_DATA, and `notifies` whether its actions are on."""

    name: str
    state: str
    description: str
    since: datetime
    notifies: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """An organizational unit, or a root, whose parent is None."""

    id: str
    name: str
    parent: str | None


class Stage:
    """Reads a stage and invokes its functions, with the operator's own credentials; every failure is a CommandError."""

    def __init__(self, name: str, session: boto3.Session, endpoint_url: str | None = None) -> None:
        """Take the stage's name and a session in the management account, in the region of the deployment."""
        self.name = name
        self._session = session
        self._endpoint_url = endpoint_url

    @classmethod
    def connect(
        cls, name: str, *, profile: str | None = None, region: str | None = None, endpoint_url: str | None = None
    ) -> "Stage":
        """Open a session by the usual chain of credentials; a CommandError says what is missing."""
        with told("opening a session"):
            session = boto3.Session(profile_name=profile, region_name=region)
        return cls(name, session, endpoint_url)

    @property
    def region(self) -> str:
        """The region that is looked at."""
        return str(self._session.region_name)

    def client(self, service: str, **config: Any) -> Any:
        """Make a client of a service, in the stage's account and region."""
        with told("opening a session"):
            try:
                return self._session.client(
                    service,  # type: ignore[call-overload]
                    endpoint_url=self._endpoint_url,
                    config=Config(retries={"mode": "standard", "total_max_attempts": 6}).merge(Config(**config)),
                )
            except InvalidRegionError:
                raise
            except ValueError as error:
                raise CommandError(
                    f"{error}: --endpoint-url and AWS_ENDPOINT_URL take a URL such as http://localhost:4566"
                ) from None

    def function(self, name: str) -> str:
        """Name a function as it is deployed."""
        return f"rolecall-{self.name}-{name}"

    # What it is.

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables that the functions run with; a CommandError where the stage is not deployed."""
        # Every command asks this first: where nothing can be reached, it says so at once.
        functions = self.client("lambda", connect_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
        with told(f"reading the settings of {self.function('enroll')}"):
            try:
                answer = functions.get_function_configuration(FunctionName=self.function("enroll"))
            except functions.exceptions.ResourceNotFoundException:
                raise NotDeployedError(
                    f"stage {self.name} is not deployed in {self.region} of account {self.account_id}: name another by "
                    f"--stage, --region or --profile, or deploy it with make deploy STAGE={self.name}"
                ) from None
        variables: dict[str, str] = answer["Environment"]["Variables"]
        return variables

    @cached_property
    def settings(self) -> Settings:
        """The settings that it is deployed with."""
        with told("reading the stage's settings"):
            return Settings.from_env(self.environment)

    @cached_property
    def account_id(self) -> str:
        """The account whose credentials these are."""
        with told("asking whose credentials these are"):
            return str(self.client("sts").get_caller_identity()["Account"])

    # Where every account stands.

    def rows(self) -> list[LedgerRow]:
        """Read the ledger, by account id."""
        with told("reading the ledger"):
            return sorted(self._ledger.rows(), key=lambda row: row.account_id)

    def row(self, account_id: AccountId) -> LedgerRow | None:
        """Read one account's row, or tell by None that the ledger doesn't know the account."""
        with told("reading the ledger"):
            return self._ledger.read([account_id]).get(account_id)

    def rows_of(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        """Read the rows of some accounts; those that the ledger doesn't know are left out."""
        with told("reading the ledger"):
            return self._ledger.read(account_ids)

    def records(self) -> Records:
        """Read the source-policy table: what was asked for, what publish found, and its record of each shard."""
        with told("reading the source-policy table"):
            return SourcePolicyTable(self.settings, self._dynamodb, self.environment["SOURCE_POLICY_TABLE"]).load()

    def accounts(self) -> list[Account]:
        """List the organization's accounts, with the OUs above each."""
        with told("listing the organization's accounts"):
            return list(Organization(self.settings, self.client("organizations")).accounts(by_ou=True))

    def account(self, account_id: AccountId) -> Account | None:
        """Describe an account, or tell by None that it is no member of the organization."""
        with told(f"describing account {account_id}"):
            return Organization(self.settings, self.client("organizations")).describe(account_id)

    def above(self, account_id: AccountId) -> list[Unit]:
        """List the root and the organizational units above a member, nearest last."""
        organizations = self.client("organizations")
        found: list[Unit] = []
        with told(f"listing the organizational units above account {account_id}"):
            parent = organizations.list_parents(ChildId=account_id)["Parents"][0]
            while parent["Type"] != "ROOT":
                unit = organizations.describe_organizational_unit(OrganizationalUnitId=parent["Id"])
                following = organizations.list_parents(ChildId=parent["Id"])["Parents"][0]
                name = unit["OrganizationalUnit"]["Name"]
                found.append(Unit(id=parent["Id"], name=name, parent=following["Id"]))
                parent = following
            roots = _paged(organizations, "list_roots", "Roots")
            found += [
                Unit(id=root["Id"], name=root["Name"], parent=None) for root in roots if root["Id"] == parent["Id"]
            ]
        return found[::-1]

    def units(self) -> dict[str, Unit]:
        """List the organization's roots and organizational units, by id."""
        organizations = self.client("organizations")
        with told("listing the organizational units"):
            roots = [
                Unit(id=root["Id"], name=root["Name"], parent=None)
                for root in _paged(organizations, "list_roots", "Roots")
            ]
            found, pending = {root.id: root for root in roots}, roots
            while pending:
                parent = pending.pop()
                for told_of in _paged(
                    organizations, "list_organizational_units_for_parent", "OrganizationalUnits", ParentId=parent.id
                ):
                    unit = Unit(id=told_of["Id"], name=told_of["Name"], parent=parent.id)
                    found[unit.id] = unit
                    pending.append(unit)
            return found

    # What is asked of it.

    def invoke(self, function: str, request: dict[str, Any]) -> dict[str, Any]:
        """Invoke a function once and give its answer; a CommandError holds the function's own error."""
        functions = self.client("lambda", read_timeout=_FUNCTION_SECONDS + 20, retries={"total_max_attempts": 1})
        with told(f"invoking {self.function(function)}"):
            try:
                answer = functions.invoke(FunctionName=self.function(function), Payload=json.dumps(request).encode())
            except functions.exceptions.ResourceNotFoundException:
                _ = self.environment  # Says so, where the whole stage is not deployed.
                raise
            payload = json.loads(answer["Payload"].read() or "null")
        if "FunctionError" in answer:
            message = (payload or {}).get("errorMessage", "no message")
            raise FunctionError(f"{self.function(function)} refused or failed: {message}")
        content: dict[str, Any] = payload
        return content

    def pages(self, function: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Invoke a function, and again for as long as its answer names a request that continues."""
        following: dict[str, Any] | None = request
        while following is not None:
            answer = self.invoke(function, following)
            yield answer
            following = answer.get("next")

    # How it is.

    def queues(self) -> list[Queue]:
        """Count the messages of the queues and the dead-letter queues."""
        sqs = self.client("sqs")
        found = []
        for name in (*WORK_QUEUES, *DEAD_LETTER_QUEUES):
            with told(f"counting the messages of rolecall-{self.name}-{name}"):
                url = sqs.get_queue_url(QueueName=f"rolecall-{self.name}-{name}")["QueueUrl"]
                held = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            found.append(
                Queue(
                    name=name,
                    visible=int(held["ApproximateNumberOfMessages"]),
                    in_flight=int(held["ApproximateNumberOfMessagesNotVisible"]),
                    delayed=int(held["ApproximateNumberOfMessagesDelayed"]),
                )
            )
        return found

    def alarms(self) -> list[Alarm]:
        """Read the stage's alarms."""
        with told("reading the alarms"):
            told_of = _paged(
                self.client("cloudwatch"), "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"rolecall-{self.name}-"
            )
            return [
                Alarm(
                    name=each["AlarmName"],
                    state=each["StateValue"],
                    description=each.get("AlarmDescription", ""),
                    since=each.get("StateUpdatedTimestamp") or datetime.now(UTC),
                    notifies=each.get("ActionsEnabled", True),
                )
                for each in told_of
            ]

    def log_lines(self, function: str, pattern: str, *, since: timedelta = _LOG_WINDOW) -> Iterator[dict[str, Any]]:
        """Read a function's structured log lines that match a filter pattern of CloudWatch Logs, oldest first.

        A function that never ran may have no log yet.
        """
        logs = self.client("logs")
        start = int((datetime.now(UTC) - since).timestamp() * 1000)
        with told(f"reading the log of {self.function(function)}"), suppress(logs.exceptions.ResourceNotFoundException):
            for event in _paged(
                logs,
                "filter_log_events",
                "events",
                logGroupName=f"/aws/lambda/{self.function(function)}",
                startTime=start,
                filterPattern=pattern,
            ):
                if event["message"].startswith("{"):
                    yield json.loads(event["message"])

    @cached_property
    def _dynamodb(self) -> Any:
        return self.client("dynamodb")

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._dynamodb, self.environment["LEDGER_TABLE"])


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn AWS's errors into a CommandError that says what was being done and what to do."""
    try:
        yield
    except (BotoCoreError, ClientError, RolecallError) as error:
        raise command_error(error, doing) from None


def _paged(client: Any, operation: str, key: str, **request: Any) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator(operation).paginate(**request):
        yield from page.get(key, [])
