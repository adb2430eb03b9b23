"""A deployed stage, from outside: requests to it, waits for it, and the state that it leaves."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from chalicelib.accounts import LedgerRow, Outcome, format_time, shown_outcome
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from local.organization import Credentials, LocalOrganization
from local.waiting import wait_until
from tests.end_to_end.iam_roles import Role, read_role

ROLE = "CrossAccountReadOnlyRole"
POLICY = "CrossAccountReadOnlyAccess"
TIMEOUT_SECONDS = 60.0  # functions start slowly on few cores
_CREATED = Path(__file__).parents[1] / "events" / "create_account_result.json"
_PAUSE_SECONDS = 0.3


class Deploy(Protocol):
    """Deploys or updates a stage with parameters."""

    def __call__(self, stage: str, **parameters: str) -> "DeployedStage": ...


@dataclass
class DeployedStage:
    organization: LocalOrganization
    name: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the functions."""
        functions = self.organization.client("lambda")
        configuration = functions.get_function_configuration(FunctionName=self.function("enroll"))
        variables: dict[str, str] = configuration["Environment"]["Variables"]
        return variables

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environment)

    def function(self, name: str) -> str:
        return f"rolecall-{self.name}-{name}"

    def queue(self, name: str) -> str:
        return f"rolecall-{self.name}-{name}"

    @cached_property
    def work_queues(self) -> tuple[str, ...]:
        """The accounts queue, and the publish queue unless there is no source policy."""
        return ("accounts", "publish.fifo") if self.settings.keeps_source_policy else ("accounts",)

    def member_role_arn(self, account_id: str) -> str:
        return f"arn:aws:iam::{account_id}:role/{self.settings.member_role_name}"

    # Requests

    def send_message(self, body: str) -> None:
        """Send a message to the accounts queue, as an administrator could."""
        self.organization.client("sqs").send_message(QueueUrl=self.environment["QUEUE_URL"], MessageBody=body)

    def enqueue(self, account_id: str, trigger: str = "event") -> None:
        """Send a message about an account to this stage, and to no other stage."""
        self.send_message(json.dumps({"account_id": account_id, "trigger": trigger}))

    def invoke(self, function: str, **request: Any) -> dict[str, Any]:
        """Invoke a function as an operator does, and return its response."""
        response: dict[str, Any] = self.organization.invoke(self.function(function), request)
        return response

    def invoke_and_wait(self, function: str, **request: Any) -> dict[str, Any]:
        """Invoke a function, wait until the queues are empty, and return the function's response."""
        response = self.invoke(function, **request)
        self.wait_until_idle()
        return response

    def fire(self, rule: str, function: str) -> None:
        """Fire a scheduled rule, and wait until its function has run and the queues are empty."""
        before = self._invocation_count(function)
        self.organization.fire(f"rolecall-{self.name}-{rule}")
        wait_until(lambda: self._invocation_count(function) > before, f"{rule} runs in {self.name}", TIMEOUT_SECONDS)
        self.wait_until_idle()

    def assume_member_role(self, account_id: str, principal: str = "", **request: str) -> Credentials:
        """Assume a member role as a source principal, by default the role `Reader` of the management account."""
        reader = principal or f"arn:aws:iam::{self.organization.management_account_id}:role/Reader"
        session = self.organization.as_role(reader)
        return self.organization.assume(self.member_role_arn(account_id), session, **request)

    # Waits

    def wait_for_outcome(
        self, account_id: str, outcome: str, reason: str | None = None, *, skip_delays: bool = True
    ) -> dict[str, Any]:
        """Wait until an account is shown with an outcome, by default without the delays of retries. Return its row."""

        def matching() -> dict[str, Any] | None:
            row = self.row(account_id)
            if row is not None and displayed_outcome(row) == (outcome, reason):
                return row
            if skip_delays:
                self.skip_delays()
            return None

        condition = f"account {account_id} is {outcome} ({reason}) in stage {self.name}"
        try:
            return wait_until(matching, condition, TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise AssertionError(f"{error}; its row: {self.row(account_id)}") from error

    def skip_delays(self) -> None:
        """Skip the delays of retried messages."""
        for queue in self.work_queues:
            self.organization.skip_delays(self.queue(queue))

    def wait_until_idle(self) -> None:
        """Wait, without the delays of retries, until every message is finished or in a dead-letter queue."""

        def is_idle() -> bool:
            # In this order: enroll sends its message to publish before its own is finished.
            if all(self.message_count(queue) == 0 for queue in self.work_queues):
                return True
            self.skip_delays()
            return False

        wait_until(is_idle, f"the queues of stage {self.name} are empty", TIMEOUT_SECONDS)

    def wait_for_passes(self, account_id: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the log contains a number of passes over an account, and return them."""

        def enough() -> list[dict[str, Any]] | None:
            passes = self.passes(account_id)
            return passes if len(passes) >= count else None

        return wait_until(enough, f"{count} passes over {account_id} are logged in {self.name}", TIMEOUT_SECONDS)

    def reconcile_again(self, account_id: str, trigger: str = "event") -> dict[str, Any]:
        """Have an account reconciled once more, and return that pass."""
        before = len(self.passes(account_id))
        self.enqueue(account_id, trigger)
        return self.wait_for_passes(account_id, before + 1)[-1]

    # State

    def row(self, account_id: str) -> dict[str, Any] | None:
        return self.rows().get(account_id)

    def rows(self) -> dict[str, dict[str, Any]]:
        return self.organization.ledger(self.name)

    def accounts_with_outcome(self, outcome: str) -> set[str]:
        return {account_id for account_id, row in self.rows().items() if row["outcome"] == outcome}

    def role(self, account_id: str) -> Role | None:
        return read_role(self.organization, account_id, self.settings.member_role_name)

    def records(self) -> Records:
        """Return the source-policy table's content as the functions read it."""
        table = self.environment["SOURCE_POLICY_TABLE"]
        return SourcePolicyTable(self.settings, self.organization.client("dynamodb"), table).load()

    def age_records(self) -> None:
        """Move the last writes of all shards into the past, so that a resync checks them."""
        hour_ago = {":at": {"S": format_time(datetime.now(UTC) - timedelta(hours=1))}}
        for record in self.records().shards:
            self.organization.client("dynamodb").update_item(
                TableName=self.environment["SOURCE_POLICY_TABLE"],
                Key={"policy_name": {"S": record.name}},
                UpdateExpression="SET written_at = :at",
                ExpressionAttributeValues=hour_ago,
            )

    def message_count(self, queue: str = "accounts") -> int:
        """Return the number of messages in a queue, including delayed ones and those in flight."""
        sqs = self.organization.client("sqs")
        url = sqs.get_queue_url(QueueName=self.queue(queue))["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOf"))

    def log(self, function: str = "enroll") -> list[dict[str, Any]]:
        """Return the application's own log lines, without those of Lambda."""
        lines = self.organization.logs(self.function(function))
        return [json.loads(line) for line in lines if line.startswith("{")]

    def all_passes(self) -> list[dict[str, Any]]:
        """Return the log line of every pass over an account, in the order of time."""
        return sorted((line for line in self.log() if line.get("message") == "account"), key=logged_at)

    def passes(self, account_id: str) -> list[dict[str, Any]]:
        return [line for line in self.all_passes() if line["account_id"] == account_id]

    def _invocation_count(self, function: str) -> int:
        return sum(line.startswith("REPORT ") for line in self.organization.logs(self.function(function)))

    def alarm_state(self, name: str) -> str:
        return self.organization.alarm_states()[f"rolecall-{self.name}-{name}"]

    def latest_metric(self, name: str, function: str = "resync") -> float:
        """Return a metric of a function's latest run; CloudWatch would add up the values of one second."""
        lines = [line for line in self.log(function) if name in line and "_aws" in line]
        (value,) = max(lines, key=lambda line: int(line["_aws"]["Timestamp"]))[name]
        return float(value)

    def policy_versions(self) -> list[str]:
        """Return the version ids of the first shard in IAM."""
        iam, arn = self._first_shard()
        return [version["VersionId"] for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]]

    def source_policy(self, name: str | None = None) -> dict[str, Any]:
        """Return the default version of a shard in IAM, by default the first."""
        iam, arn = self._first_shard()
        arn = arn if name is None else f"{arn.rpartition('/')[0]}/{name}"
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document: dict[str, Any] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return document

    def granted_accounts(self) -> set[str]:
        """Return the accounts that the first shard grants access to; none if it doesn't exist."""
        iam, _ = self._first_shard()
        try:
            (statement,) = self.source_policy()["Statement"]
        except iam.exceptions.NoSuchEntityException:
            return set()
        return set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])

    def _first_shard(self) -> tuple[Any, str]:
        settings = self.settings
        iam = self.organization.client("iam", settings.source_account_id)
        return iam, f"arn:aws:iam::{settings.source_account_id}:policy/{settings.source_policy_name}"


@contextmanager
def delays_skipped(stage: DeployedStage) -> Iterator[None]:
    """Skip the delays of retries during a block that waits for them."""
    finished = Event()

    def skip_repeatedly() -> None:
        while not finished.wait(_PAUSE_SECONDS):
            stage.skip_delays()

    with ThreadPoolExecutor(1) as pool:
        skipping = pool.submit(skip_repeatedly)
        try:
            yield
        finally:
            finished.set()
        skipping.result()


@contextmanager
def environment_changed(stage: DeployedStage, *functions: str, **variables: str) -> Iterator[None]:
    """Change environment variables of functions during a block."""
    client, original = stage.organization.client("lambda"), stage.environment
    try:
        for function in functions:
            environment = {"Variables": original | variables}
            client.update_function_configuration(FunctionName=stage.function(function), Environment=environment)
        yield
    finally:
        for function in functions:
            environment = {"Variables": original}
            client.update_function_configuration(FunctionName=stage.function(function), Environment=environment)


def account_created_event(account_id: str) -> dict[str, Any]:
    """Return the event that an account was created."""
    event: dict[str, Any] = json.loads(_CREATED.read_text())
    event["detail"]["serviceEventDetails"]["createAccountStatus"]["accountId"] = account_id
    return event


def displayed_outcome(row: dict[str, Any]) -> tuple[str, str | None]:
    """Return the outcome and the reason that operators are shown for a ledger row."""
    reason = row.get("reason")
    parsed = LedgerRow(
        account_id=row["account_id"],
        outcome=Outcome(row["outcome"]),
        reason=Reason(reason) if reason else None,
        in_force_since=row.get("in_force_since"),
        updated_at=row["updated_at"],
    )
    return shown_outcome(parsed)


def logged_at(line: dict[str, Any]) -> datetime:
    """Return the time of a log line."""
    return datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z")
