"""A stage of Rolecall in an organization: the template's own queues, tables, environment and policies, and the functions."""

import json
import runpy
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from moto.backends import get_backend
from samtranslator.yaml_helper import yaml_parse

from chalicelib.bootstrap import Application
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from chalicelib.telemetry import metrics
from deploy.aws import Location
from deploy.intrinsics import resolve
from deploy.parameters import known_values, merge_parameters
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
    """What became of a batch: the accounts, bodies or (of publish) message ids that were finished, and the others' delays."""

    finished: list[str] = field(default_factory=list)
    delays: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Delivery") -> None:
        self.finished.extend(other.finished)
        self.delays.update(other.delays)


class Stage:
    """A stage with some parameters; made again with others, it is the same stage with changed settings.

    Unless `deployed` is "false", publish runs once, as it does after every deployment.
    """

    def __init__(self, organization: Organization, stage: str = "test", **parameters: str) -> None:
        deployed = parameters.pop("deployed", "true") == "true"
        self._organization = organization
        template = _template()
        # moto is not thread-safe.
        given = {"SourcePrincipalArns": READER, "Threads": "1", **parameters, "Stage": stage}
        self._values = known_values(
            template, merge_parameters(template["Parameters"], given, {}), Location("aws", MANAGEMENT, REGION)
        )
        for name, resource in template["Resources"].items():
            if resource.get("Type") in _ARNS:
                service, path = _ARNS[resource["Type"]]
                properties = resource["Properties"]
                names = {key: resolve(properties[key], self._values) for key in properties if key.endswith("Name")}
                self._values[f"{name}.Arn"] = f"arn:aws:{service}:{REGION}:{MANAGEMENT}:{path.format(**names)}"
        self._values["Publish.Arn"] = f"arn:aws:lambda:{REGION}:{MANAGEMENT}:function:rolecall-{stage}-publish"
        self.environ: dict[str, str] = resolve(
            template["Globals"]["Function"]["Environment"]["Variables"], self._values
        )
        self._sqs = organization.operator.sqs
        self._dynamodb = organization.operator.dynamodb
        for name in ("AccountsDeadLetterQueue", "AccountsQueue", "PublishDeadLetterQueue", "PublishQueue"):
            self._make_queue(template["Resources"][name]["Properties"])
        for name in ("LedgerTable", "SourcePolicyTable"):
            self._make_table(template["Resources"][name]["Properties"])
        self.move_tasks: list[dict[str, str]] = []
        self.ledger = self._dynamodb.Table(self.environ["LEDGER_TABLE"])
        self.records = self._dynamodb.Table(self.environ["SOURCE_POLICY_TABLE"])
        self._applications = {
            name: Application(self.environ, session, clock=organization.clock, pause=organization.clock.pause)
            for name, session in organization.functions.items()
        }
        if deployed:
            self.run_publish()
            metrics.clear_metrics()

    def _make_queue(self, properties: Mapping[str, Any]) -> None:
        told = resolve(properties, self._values)
        attributes: Any = {"VisibilityTimeout": str(told.get("VisibilityTimeout", 30))}
        if "RedrivePolicy" in told:
            attributes["RedrivePolicy"] = json.dumps(told["RedrivePolicy"])
        if told.get("FifoQueue"):
            attributes["FifoQueue"] = "true"
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
        return tuple(resolve(_PACKAGE["expanded_statements"](written["Statement"], shared), self._values))

    def sign(self) -> None:
        """Let each function's calls be known as this stage's, and be held against its policy."""
        boundary = self._organization.boundary
        boundary.own = {
            key: Signer(function, MANAGEMENT, self.policy_of(function)) for function, key in FUNCTION_KEYS.items()
        }
        # moto has no such tasks.
        boundary.answer("sqs:ListMessageMoveTasks", lambda _: {"Results": list(self.move_tasks)})
        boundary.answer("sqs:StartMessageMoveTask", self._move)
        boundary.answer("lambda:Invoke", self._invoke)

    def announce(self, name: str, account_id: str) -> None:
        """Let EventBridge deliver an event that names an account."""
        self.sign()
        self._applications["on_account_event"].enqueue(event(name, account_id))

    def send(self, body: str) -> None:
        """Put a message on the queue by hand."""
        self._sqs.send_message(QueueUrl=self.environ["QUEUE_URL"], MessageBody=body)

    def ask_publish(self, body: str = "{}") -> None:
        """Put a message on the publish queue by hand."""
        url, unique = self.environ["PUBLISH_QUEUE_URL"], uuid4().hex
        self._sqs.send_message(
            QueueUrl=url, MessageBody=body, MessageGroupId="source-policy", MessageDeduplicationId=unique
        )

    def send_dead(self, queue: str, body: str) -> None:
        """Put a message on a dead-letter queue, "Accounts" or "Publish"."""
        fifo: Any = {"MessageGroupId": "source-policy", "MessageDeduplicationId": uuid4().hex}
        url = self._values[f"{queue}DeadLetterQueue"]
        self._sqs.send_message(QueueUrl=url, MessageBody=body, **(fifo if queue == "Publish" else {}))

    def ask(self, *account_ids: str) -> None:
        """Put a message for each account on the queue."""
        for account_id in account_ids:
            self.send(json.dumps({"account_id": account_id, "trigger": "event"}))

    def deliver(self, seconds: float = 600.0) -> Delivery:
        """Let Lambda take one batch off the accounts queue and give it to `enroll`, then run publish if that asked for it."""
        delivery = self.deliver_accounts(seconds)
        self.publish()
        return delivery

    def deliver_accounts(self, seconds: float = 600.0) -> Delivery:
        """Let Lambda take one batch off the accounts queue and give it to `enroll`, which has so many seconds."""
        self.sign()
        records = self.receive()
        return self.settle(records, self._applications["enroll"].enroll(records, Context(seconds)))

    def publish(self, seconds: float = 120.0) -> Delivery:
        """Let Lambda deliver the publish queue's messages until none is visible."""
        all_of_them = Delivery()
        while self._is_visible("PublishQueue"):
            self.sign()
            records = self.receive("PublishQueue")
            all_of_them.add(self.settle(records, self.run_publish(records, seconds=seconds), "PublishQueue"))
        return all_of_them

    def run_publish(
        self, records: Sequence[dict[str, Any]] = (), *, seconds: float = 120.0, request_id: str = ""
    ) -> dict[str, Any]:
        """Run publish with some messages, or as freeze invokes it without any."""
        self.sign()
        context = Context(seconds, aws_request_id=request_id or str(uuid4()))
        return self._applications["publish"].publish(list(records), context)

    def _invoke(self, params: Mapping[str, Any]) -> dict[str, Any]:
        assert (params["FunctionName"], params["InvocationType"]) == (
            self._values["Publish.Arn"].rpartition(":")[2],
            "RequestResponse",
        )
        assert self.run_publish(json.loads(params["Payload"])["Records"]) == {"batchItemFailures": []}
        return {"StatusCode": 200}

    def run(self, function: str, request: Any = None, *, seconds: float = 600.0) -> dict[str, Any]:
        """Run a function that operators and schedules run, which has so many seconds."""
        self.sign()
        application = self._applications[function]
        answer: dict[str, Any] = getattr(application, function)({} if request is None else request, Context(seconds))
        # As Lambda writes it.
        return dict(json.loads(json.dumps(answer)))

    def work(self) -> Delivery:
        """Deliver both queues' batches until only messages with a delay of more than five seconds are left."""
        all_of_them = Delivery()
        while self._is_visible("AccountsQueue", 5) or self._is_visible("PublishQueue", 5):
            for queue in ("AccountsQueue", "PublishQueue"):
                self._let_seconds_pass(queue, 5)
            self.let_lease_expire()
            self.publish()
            while self._is_visible("AccountsQueue"):
                all_of_them.add(self.deliver_accounts())
            self.publish()
        return all_of_them

    def enroll(self, *account_ids: str, seconds: float = 600.0) -> Delivery:
        """Ask for some accounts, deliver them as one batch, and publish."""
        self.ask(*account_ids)
        return self.deliver(seconds)

    def receive(self, queue: str = "AccountsQueue") -> list[dict[str, Any]]:
        """Take one batch off a queue, as Lambda shapes it."""
        received = self._sqs.receive_message(
            QueueUrl=self._values[queue], MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages", [])
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": {**message["Attributes"], "SentTimestamp": self._sent(message)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": self._values[f"{queue}.Arn"],
                "awsRegion": REGION,
            }
            for message in received
        ]

    def _sent(self, message: Mapping[str, Any]) -> str:
        """Return when a message was sent, by the functions' clock."""
        return str(int(message["Attributes"]["SentTimestamp"]) + round(self._organization.clock.waited * 1000))

    def settle(
        self, records: Sequence[Mapping[str, Any]], answer: Mapping[str, Any], queue: str = "AccountsQueue"
    ) -> Delivery:
        """Delete what was finished, as Lambda does with a partial batch response."""
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        delivery = Delivery()
        for record in records:
            about = _about(record["body"]) if queue == "AccountsQueue" else record["messageId"]
            if record["messageId"] in failed:
                delivery.delays[about] = self._delay(queue, record["messageId"])
            else:
                self._sqs.delete_message(QueueUrl=self._values[queue], ReceiptHandle=record["receiptHandle"])
                delivery.finished.append(about)
        return delivery

    def purge(self, queue: str = "AccountsQueue") -> None:
        """Lose every message of a queue."""
        self._messages(queue).clear()

    def let_delays_pass(self) -> None:
        self.let_lease_expire()
        for queue in ("AccountsQueue", "PublishQueue"):
            self._let_seconds_pass(queue, 100_000)

    def let_lease_expire(self) -> None:
        """Let a lease that a run kept, since the outcome of a call is unknown, expire."""
        left = float(self.item("#status").get("run_until", 0)) - self._organization.clock()
        if left > 0:
            self._organization.clock.pause(left + 1)

    def _let_seconds_pass(self, queue: str, seconds: float) -> None:
        """Make the messages visible that are hidden for at most so many seconds."""
        for message in self._messages(queue):
            if message.visible_at <= (time.time() + seconds) * 1000:
                message.visible_at = 0
                self._in_moto(queue).pending_messages.discard(message)

    def _is_visible(self, queue: str, seconds: float = 0.0) -> bool:
        """Whether a message can be received in so many seconds; a hidden one of a FIFO queue's group keeps the others back."""
        visible = [message.visible_at <= (time.time() + seconds) * 1000 for message in self._messages(queue)]
        return all(visible) and visible != [] if queue == "PublishQueue" else any(visible)

    def _move(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Put what is in a dead-letter queue back where it came from, as SQS does on its own time."""
        name = "Publish" if params["SourceArn"] == self._values["PublishDeadLetterQueue.Arn"] else "Accounts"
        dead = self._messages(f"{name}DeadLetterQueue")
        fifo: Any = (
            {"MessageGroupId": "source-policy", "MessageDeduplicationId": uuid4().hex} if name == "Publish" else {}
        )
        for message in dead:
            self._sqs.send_message(QueueUrl=self._values[f"{name}Queue"], MessageBody=message.body, **fifo)
        dead.clear()
        self.move_tasks.insert(0, {"Status": "COMPLETED"})
        return {"TaskHandle": "task"}

    def waiting(self, queue: str = "AccountsQueue") -> list[str]:
        """List the bodies of the messages that a queue holds, visible or not."""
        return [message.body for message in self._messages(queue)]

    def _messages(self, queue: str) -> list[Any]:
        messages: list[Any] = self._in_moto(queue)._messages
        return messages

    def _in_moto(self, queue: str) -> Any:
        return get_backend("sqs")[MANAGEMENT][REGION].queues[self._values[queue].rpartition("/")[2]]

    def _delay(self, queue: str, message_id: str) -> int:
        (message,) = (each for each in self._messages(queue) if each.id == message_id)
        seconds: float = message.visible_at / 1000 - time.time()
        return round(seconds)

    def row(self, account_id: str) -> dict[str, Any]:
        """Look at an account's row of the ledger; empty where there is none."""
        row: dict[str, Any] = self.ledger.get_item(Key={"account_id": account_id}).get("Item", {})
        return row

    def verdict(self, account_id: str) -> tuple[str | None, str | None]:
        """Return the outcome and reason that an account's row shows a person."""
        return _shown(self.row(account_id))

    def verdicts(self) -> dict[str, tuple[str | None, str | None]]:
        """Return the outcome and reason that each row of the ledger shows a person."""
        rows: Any = self.ledger.scan()["Items"]
        return {row["account_id"]: _shown(row) for row in rows}

    def grow_old(self, account_id: str, **ago: float) -> None:
        """Let an account's row have been written (and its first failure been) some time ago."""
        row = self.row(account_id)
        then = (datetime.now(UTC) - timedelta(**ago)).isoformat(timespec="microseconds")
        self.ledger.put_item(Item={**row, **{key: then for key in ("updated_at", "failed_at") if key in row}})

    def item(self, key: str) -> dict[str, Any]:
        """Look at an item of the source-policy table; empty where there is none."""
        item: dict[str, Any] = self.records.get_item(Key={"policy_name": key}).get("Item", {})
        return item

    def items(self) -> dict[str, dict[str, Any]]:
        """Look at every item of the source-policy table, by its key."""
        found: Any = self.records.scan()["Items"]
        return {item["policy_name"]: item for item in found}

    def granted(self, name: str) -> set[str]:
        """Return the accounts that a shard's record grants, as last applied."""
        return set(filter(None, self.item(name)["applied"]["accounts"].split(",")))

    def edit(self, key: str, **attributes: Any) -> None:
        """Change attributes of an item of the source-policy table; None removes one."""
        changed = {**self.item(key), "policy_name": key, **attributes}
        self.records.put_item(Item={name: value for name, value in changed.items() if value is not None})

    def lose(self, *keys: str) -> None:
        """Delete items of the source-policy table, all of them if none is named."""
        for key in keys or tuple(self.items()):
            self.records.delete_item(Key={"policy_name": key})

    def lose_ledger(self) -> None:
        for account_id in self.verdicts():
            self.ledger.delete_item(Key={"account_id": account_id})

    def full_shard(self, *account_ids: str) -> list[str]:
        """Return as many accounts as a shard holds, some of which are given."""
        room = capacity(Settings.from_env(self.environ)) - len(account_ids)
        return [*account_ids, *(f"9{number:011}" for number in range(room))]

    def fill(self, name: str, account_ids: Collection[str]) -> None:
        """Have a shard's record grant just these accounts; those without a row keep what they have."""
        applied = {**self.item(name)["applied"], "accounts": ",".join(sorted(account_ids))}
        self.edit(name, applied=applied)

    def exclude(self, name: str, account_ids: Collection[str]) -> None:
        """Have a shard's record of scope organization exclude just these accounts."""
        applied = {**self.item(name)["applied"], "excluded": ",".join(sorted(account_ids))}
        self.edit(name, applied=applied)

    def let_records_grow_old(self, **ago: float) -> None:
        """Let everything in the source-policy table have happened so much earlier."""
        for key, item in self.items().items():
            times = {name: value for name, value in item.items() if name.endswith("_at")}
            self.edit(
                key,
                **{
                    name: (datetime.fromisoformat(value) - timedelta(**ago)).isoformat(timespec="microseconds")
                    for name, value in times.items()
                },
            )

    def hold_lease(self, *, seconds: float = 20.0, owner: str = "another-run") -> None:
        """Have another run hold the run lease."""
        self.records.update_item(
            Key={"policy_name": "#status"},
            UpdateExpression="SET run_owner = :owner, run_until = :until",
            ExpressionAttributeValues={":owner": owner, ":until": int(self._organization.clock() + seconds)},
        )


def _shown(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    in_force, outcome = "in_force_since" in row, row.get("outcome")
    if (outcome == "enrolled" and not in_force) or (outcome in {"skipped", "retired"} and in_force):
        return "pending", "source_policy_pending"
    return outcome, row.get("reason")


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
