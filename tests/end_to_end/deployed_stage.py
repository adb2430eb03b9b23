"""A deployed stage, seen from outside: what it is told, and what it has brought about."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from chalicelib.accounts import LedgerRow, Outcome, shown_outcome
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from local.organization import LocalOrganization
from local.waiting import until

_CREATED = Path(__file__).parents[1] / "events" / "create_account_result.json"

PATIENCE = 60.0  # seconds: functions start slowly where cores are few


class Deploy(Protocol):
    """Deploys a stage, or changes one, with some Parameters."""

    def __call__(self, stage: str, **parameters: str) -> "Stage": ...


@dataclass
class Stage:
    organization: LocalOrganization
    name: str
    _retried: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the functions run with."""
        functions = self.organization.client("lambda")
        configuration = functions.get_function_configuration(FunctionName=self.function("enroll"))
        variables: dict[str, str] = configuration["Environment"]["Variables"]
        return variables

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environment)

    def function(self, name: str) -> str:
        return f"rolecall-{self.name}-{name}"

    def member_role(self, account_id: str) -> str:
        return f"arn:aws:iam::{account_id}:role/{self.settings.member_role_name}"

    # What it is told.

    def hear(self, account_id: str) -> None:
        """Have this stage alone hear that an account was created, whatever is true of it."""
        answer = self.organization.client("lambda").invoke(
            FunctionName=self.function("on_account_event"), Payload=json.dumps(created(account_id)).encode()
        )
        assert "FunctionError" not in answer, answer["Payload"].read()

    def send(self, body: str) -> None:
        """Put a message on the queue as an administrator could."""
        self.organization.client("sqs").send_message(QueueUrl=self.environment["QUEUE_URL"], MessageBody=body)

    # What it has brought about.

    def row(self, account_id: str) -> dict[str, Any] | None:
        return self.organization.ledger(self.name).get(account_id)

    def settled(
        self, account_id: str, outcome: str, reason: str | None = None, *, hurrying: bool = True
    ) -> dict[str, Any]:
        """Wait until an account is shown with an outcome; unless `hurrying` is off, the delays of retried messages are skipped."""

        def found() -> dict[str, Any] | None:
            row = self.row(account_id)
            if row is not None and shown(row) == (outcome, reason):
                return row
            if hurrying:
                self.hurry()
            return None

        try:
            return until(found, f"account {account_id} is {outcome} ({reason}) in stage {self.name}", PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"{error}; its row: {self.row(account_id)}") from error

    def hurry(self) -> None:
        """Skip all delays if messages were retried since the last time; those that are being processed come again, too."""
        for queue, function in (("accounts", "enroll"), ("publish.fifo", "publish")):
            retried = sum(map(_is_retried, self.log(function)))
            if retried > self._retried.get(queue, 0):
                self._retried[queue] = retried
                self.organization.skip_delays(f"rolecall-{self.name}-{queue}")

    def idle(self) -> None:
        """Wait until every message is finished or in a dead-letter queue; the delays of retried messages are skipped."""

        def found() -> bool:
            # In this order: enroll asks for a run of publish before its own message is finished.
            if self.waiting() == 0 and self.waiting("publish.fifo") == 0:
                return True
            self.hurry()
            return False

        until(found, f"the queues of stage {self.name} are empty", PATIENCE)

    def passed(self, account_id: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait until so many passes over an account are in the log."""
        passes = self.passes(account_id)

        def found() -> bool:
            passes[:] = self.passes(account_id)
            return len(passes) >= times

        until(found, f"stage {self.name} logs {times} passes over {account_id}", PATIENCE)
        return passes

    def checked_again(self, account_id: str) -> dict[str, Any]:
        """Have an account looked at once more, and tell that pass."""
        before = len(self.passes(account_id))
        self.hear(account_id)
        return self.passed(account_id, before + 1)[-1]

    def waiting(self, queue: str = "accounts") -> int:
        """Count a queue's messages, the ones that were handed back or are worked on too."""
        sqs = self.organization.client("sqs")
        url = sqs.get_queue_url(QueueName=f"rolecall-{self.name}-{queue}")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOf"))

    def log(self, function: str = "enroll") -> list[dict[str, Any]]:
        """Read what the application itself has logged; Lambda writes the errors that it ended with beside it."""
        lines = self.organization.logs(self.function(function))
        return [json.loads(line) for line in lines if line.startswith("{")]

    def passes(self, account_id: str) -> list[dict[str, Any]]:
        """Read the canonical lines of an account."""
        lines = [line for line in self.log() if line.get("message") == "account" and line["account_id"] == account_id]
        return sorted(lines, key=logged_at)

    def versions(self) -> list[str]:
        """Tell which versions the first shard has in IAM."""
        iam, arn = self._source_policy()
        return [version["VersionId"] for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]]

    def source_policy(self) -> dict[str, Any]:
        """Read the first shard's default version as IAM has it."""
        iam, arn = self._source_policy()
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document: dict[str, Any] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return document

    def named(self) -> set[str]:
        """Tell which accounts the source policy names; none while there is no policy."""
        iam, _ = self._source_policy()
        try:
            (statement,) = self.source_policy()["Statement"]
        except iam.exceptions.NoSuchEntityException:
            return set()
        return set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])

    def _source_policy(self) -> tuple[Any, str]:
        settings = self.settings
        iam = self.organization.client("iam", settings.source_account_id)
        return iam, f"arn:aws:iam::{settings.source_account_id}:policy/{settings.source_policy_name}"


def created(account_id: str) -> dict[str, Any]:
    """Write the event of an account's creation."""
    event: dict[str, Any] = json.loads(_CREATED.read_text())
    event["detail"]["serviceEventDetails"]["createAccountStatus"]["accountId"] = account_id
    return event


def shown(row: dict[str, Any]) -> tuple[str, str | None]:
    """Return the outcome and the reason that a person is shown for a row of the ledger."""
    reason = row.get("reason")
    read = LedgerRow(
        account_id=row["account_id"],
        outcome=Outcome(row["outcome"]),
        reason=Reason(reason) if reason else None,
        in_force_since=row.get("in_force_since"),
        updated_at=row["updated_at"],
    )
    return shown_outcome(read)


def _is_retried(line: dict[str, Any]) -> bool:
    message = str(line.get("message"))
    return bool(line.get("retry")) or "is retried" in message or message == "message can't be read"


def logged_at(line: dict[str, Any]) -> datetime:
    return datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z")
