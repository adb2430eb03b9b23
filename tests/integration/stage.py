"""A stage of Rolecall in an organization: the template's own queue, tables, environment and policies, and the functions."""

import json
import runpy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from samtranslator.yaml_helper import yaml_parse

from chalicelib.bootstrap import Application
from deploy.aws import Place
from deploy.intrinsics import resolve
from deploy.parameters import known_values, settle
from tests.integration.boundary import FUNCTION_KEYS, Signer
from tests.integration.organization import MANAGEMENT, READER, REGION, Organization

_DEPLOYMENT = Path(__file__).parents[2] / ".chalice"
_PACKAGE = runpy.run_path(str(_DEPLOYMENT / "package.py"))
_ARNS = {
    "AWS::DynamoDB::Table": ("dynamodb", "table/{TableName}"),
    "AWS::SQS::Queue": ("sqs", "{QueueName}"),
    "AWS::Logs::LogGroup": ("logs", "log-group:{LogGroupName}:*"),
}


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about its invocation."""

    seconds: float = 600.0
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = "rolecall-test-function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{MANAGEMENT}:function:rolecall-test-function"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass(frozen=True)
class Delivery:
    """What became of a batch: the accounts (or bodies) that were finished, and the delay of each that came back."""

    finished: list[str] = field(default_factory=list)
    delays: dict[str, int] = field(default_factory=dict)


class Stage:
    """A stage with some parameters; made again with others, it is the same stage with changed settings."""

    def __init__(self, organization: Organization, stage: str = "test", **parameters: str) -> None:
        self._organization = organization
        template = _template()
        # moto is not thread-safe.
        given = {"SourcePrincipalArns": READER, "Threads": "1", **parameters, "Stage": stage}
        self._values = known_values(
            template, settle(template["Parameters"], given, {}), Place("aws", MANAGEMENT, REGION)
        )
        for name, resource in template["Resources"].items():
            if resource.get("Type") in _ARNS:
                service, path = _ARNS[resource["Type"]]
                properties = resource["Properties"]
                names = {key: resolve(properties[key], self._values) for key in properties if key.endswith("Name")}
                self._values[f"{name}.Arn"] = f"arn:aws:{service}:{REGION}:{MANAGEMENT}:{path.format(**names)}"
        self.environ: dict[str, str] = resolve(
            template["Globals"]["Function"]["Environment"]["Variables"], self._values
        )
        self._sqs = organization.operator.sqs
        self._dynamodb = organization.operator.dynamodb
        for name in ("AccountsDeadLetterQueue", "AccountsQueue"):
            self._make_queue(template["Resources"][name]["Properties"])
        for name in ("LedgerTable", "SourcePolicyTable"):
            self._make_table(template["Resources"][name]["Properties"])
        self.move_tasks: list[dict[str, str]] = []
        self.ledger = self._dynamodb.Table(self.environ["LEDGER_TABLE"])
        self.shards = self._dynamodb.Table(self.environ["SOURCE_POLICY_TABLE"])
        self._applications = {
            name: Application(self.environ, session) for name, session in organization.functions.items()
        }

    def _make_queue(self, properties: Mapping[str, Any]) -> None:
        told = resolve(properties, self._values)
        attributes: Any = {"VisibilityTimeout": str(told.get("VisibilityTimeout", 30))}
        if "RedrivePolicy" in told:
            attributes["RedrivePolicy"] = json.dumps(told["RedrivePolicy"])
        self._sqs.create_queue(QueueName=told["QueueName"], Attributes=attributes)

    def _make_table(self, properties: Mapping[str, Any]) -> None:
        told = resolve(properties, self._values)
        client = self._dynamodb.meta.client
        if told["TableName"] not in client.list_tables()["TableNames"]:
            kept = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema")
            client.create_table(**{key: told[key] for key in kept})

    def policy_of(self, function: str) -> tuple[dict[str, Any], ...]:
        """Tell what a function's role allows in this stage."""
        written, shared = (
            json.loads((_DEPLOYMENT / f"{name}.json").read_text()) for name in (f"policy-{function}", "statements")
        )
        return tuple(resolve(_PACKAGE["spelled_out"](written["Statement"], shared), self._values))

    def sign(self) -> None:
        """Let each function's calls be known as this stage's, and be held against its policy."""
        boundary = self._organization.boundary
        boundary.own = {
            key: Signer(function, MANAGEMENT, self.policy_of(function)) for function, key in FUNCTION_KEYS.items()
        }
        # moto has no such tasks.
        boundary.answer("sqs:ListMessageMoveTasks", lambda _: {"Results": list(self.move_tasks)})
        boundary.answer("sqs:StartMessageMoveTask", self._move)

    def announce(self, name: str, account_id: str) -> None:
        """Let EventBridge deliver an event that names an account."""
        self.sign()
        self._applications["on_account_event"].announce(event(name, account_id))

    def send(self, body: str) -> None:
        """Put a message on the queue by hand."""
        self._sqs.send_message(QueueUrl=self.environ["QUEUE_URL"], MessageBody=body)

    def ask(self, *account_ids: str) -> None:
        """Put a message for each account on the queue."""
        for account_id in account_ids:
            self.send(json.dumps({"account_id": account_id, "trigger": "event"}))

    def deliver(self, seconds: float = 600.0) -> Delivery:
        """Let Lambda take one batch off the queue and give it to `enroll`, which has so many seconds."""
        self.sign()
        records = self.receive()
        return self.settle(records, self._applications["enroll"].enroll(records, Context(seconds)))

    def run(self, function: str, request: Any = None, *, seconds: float = 600.0) -> dict[str, Any]:
        """Run a function that operators and schedules run, which has so many seconds."""
        self.sign()
        application = self._applications[function]
        answer: dict[str, Any] = getattr(application, function)({} if request is None else request, Context(seconds))
        # As Lambda writes it.
        return dict(json.loads(json.dumps(answer)))

    def work(self) -> Delivery:
        """Deliver one batch after the other until no message is left but those that are kept back."""
        all_of_them = Delivery()
        while any(message.visible_at <= time.time() * 1000 for message in self._messages("AccountsQueue")):
            delivery = self.deliver()
            all_of_them.finished.extend(delivery.finished)
            all_of_them.delays.update(delivery.delays)
        return all_of_them

    def enroll(self, *account_ids: str, seconds: float = 600.0) -> Delivery:
        """Ask for some accounts and deliver them as one batch."""
        self.ask(*account_ids)
        return self.deliver(seconds)

    def receive(self) -> list[dict[str, Any]]:
        """Take one batch off the queue, as Lambda shapes it."""
        received = self._sqs.receive_message(
            QueueUrl=self.environ["QUEUE_URL"], MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages", [])
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": self._values["AccountsQueue.Arn"],
                "awsRegion": REGION,
            }
            for message in received
        ]

    def settle(self, records: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> Delivery:
        """Delete what was finished, as Lambda does with a partial batch response."""
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        delivery = Delivery()
        for record in records:
            about = _about(record["body"])
            if record["messageId"] in failed:
                delivery.delays[about] = self._delay(record["messageId"])
            else:
                self._sqs.delete_message(QueueUrl=self.environ["QUEUE_URL"], ReceiptHandle=record["receiptHandle"])
                delivery.finished.append(about)
        return delivery

    def purge(self) -> None:
        """Lose every message, as the dead-letter queue does in the end."""
        self._messages("AccountsQueue").clear()

    def let_delays_pass(self) -> None:
        for message in self._messages("AccountsQueue"):
            message.visible_at = 0

    def _move(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Put what is in the dead-letter queue back where it came from, as SQS does on its own time."""
        dead = self._messages("AccountsDeadLetterQueue")
        for message in dead:
            self.send(message.body)
        dead.clear()
        self.move_tasks.insert(0, {"Status": "COMPLETED"})
        return {"TaskHandle": "task"}

    def waiting(self, queue: str = "AccountsQueue") -> list[str]:
        """List the bodies of the messages that a queue holds, visible or not."""
        return [message.body for message in self._messages(queue)]

    def _messages(self, queue: str) -> list[Any]:
        name = self._values[queue].rpartition("/")[2]
        messages: list[Any] = get_backend("sqs")[MANAGEMENT][REGION].queues[name]._messages
        return messages

    def _delay(self, message_id: str) -> int:
        (message,) = (each for each in self._messages("AccountsQueue") if each.id == message_id)
        seconds: float = message.visible_at / 1000 - time.time()
        return round(seconds)

    def row(self, account_id: str) -> dict[str, Any]:
        """Look at an account's row of the ledger; empty where there is none."""
        row: dict[str, Any] = self.ledger.get_item(Key={"account_id": account_id}).get("Item", {})
        return row

    def verdict(self, account_id: str) -> tuple[str | None, str | None]:
        """Look at where an account stands by the ledger, and why."""
        row = self.row(account_id)
        return row.get("outcome"), row.get("reason")

    def verdicts(self) -> dict[str, tuple[str, str | None]]:
        """Look at where every account of the ledger stands, and why."""
        rows: Any = self.ledger.scan()["Items"]
        return {row["account_id"]: (row["outcome"], row.get("reason")) for row in rows}

    def grow_old(self, account_id: str, **ago: float) -> None:
        """Let an account's row have been written (and its first failure been) some time ago."""
        row = self.row(account_id)
        then = (datetime.now(UTC) - timedelta(**ago)).isoformat(timespec="microseconds")
        self.ledger.put_item(Item={**row, **{key: then for key in ("updated_at", "failed_at") if key in row}})

    def shard(self, name: str) -> dict[str, Any]:
        """Look at a shard's item, with its account ids taken apart."""
        item: dict[str, Any] = self.shards.get_item(Key={"policy_name": name}).get("Item", {})
        named = {key: item[key] for key in ("accounts", "excluded") if key in item}
        return item | {key: set(filter(None, ids.split(","))) for key, ids in named.items()}

    def fill(self, name: str, account_ids: Sequence[str], *, written: bool = True) -> None:
        """Have a shard's item name just these accounts, as if another worker had placed and (unless told) written them."""
        self.shards.update_item(
            Key={"policy_name": name},
            UpdateExpression="SET accounts = :accounts ADD version :behind",
            ExpressionAttributeValues={":accounts": ",".join(account_ids), ":behind": int(not written)},
        )
        self.shards.update_item(
            Key={"policy_name": "#placement"},
            UpdateExpression="ADD version :one",
            ExpressionAttributeValues={":one": 1},
        )


@cache
def _template() -> dict[str, Any]:
    template: Any = yaml_parse((_DEPLOYMENT / "resources.yaml").read_text())
    return dict(template)


def event(name: str, account_id: str) -> dict[str, Any]:
    """Make the event that tells of an account; what else such events look like is the events' own tests' concern."""
    where: dict[str, dict[str, Any]] = {
        "CreateAccountResult": {
            "serviceEventDetails": {"createAccountStatus": {"state": "SUCCEEDED", "accountId": account_id}}
        },
        "CloseAccountResult": {
            "serviceEventDetails": {"closeAccountStatus": {"state": "SUCCEEDED", "accountId": account_id}}
        },
        "AccountJoinedOrganization": {"serviceEventDetails": {"accountId": account_id, "joinedMethod": "INVITED"}},
        "AccountDepartedOrganization": {"serviceEventDetails": {"accountId": account_id, "departureMethod": "LEFT"}},
        "MoveAccount": {"requestParameters": {"accountId": account_id}},
    }
    return {
        "version": "0",
        "id": "68679d28-343e-d8ec-4a8c-cdd430223a5d",
        "time": "2026-03-15T08:27:14Z",
        "resources": [],
        "source": "aws.organizations",
        "account": MANAGEMENT,
        "detail-type": "AWS Service Event via CloudTrail",
        "region": REGION,
        "detail": {
            "eventName": name,
            "recipientAccountId": MANAGEMENT,
            "userIdentity": {"accountId": MANAGEMENT, "arn": f"arn:aws:iam::{MANAGEMENT}:user/secretary"},
            **where[name],
        },
    }


def _about(body: str) -> str:
    try:
        return str(json.loads(body)["account_id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return body
