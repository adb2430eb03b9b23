"""A stage of Rolecall in an organization: the functions, over a deployment's queues and tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import boto3
from botocore.exceptions import ClientError

from chalicelib.aws.sessions import account_client, publish_config
from chalicelib.bootstrap import Application, announcing
from chalicelib.telemetry import metrics
from tests.integration.organization import MANAGEMENT, REGION, SECOND_SHARD, SOURCE_POLICY, Organization
from tests.integration.queues import Delivery, Queues
from tests.integration.tables import Tables

REGIONS = (REGION, "eu-west-1")
"""The regions in which the functions look for stacks: in AWS, all of the partition."""


@dataclass(frozen=True)
class Context:
    """Lambda's context of an invocation."""

    seconds: float = 600.0
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = "rolecall-test-function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{MANAGEMENT}:function:rolecall-test-function"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


class ReusingSession(boto3.Session):
    """Creates each client once: that takes longer than all calls of most tests."""

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def client(self, service_name: str, *_: Any, config: Any, **__: Any) -> Any:  # type: ignore[override]
        create: Any = super().client  # with overloads by service
        return self._reused(service_name, config, lambda: create(service_name, config=config))

    def account_client(self, config: Any) -> Any:
        """Return the IAM client that acts in the account that was entered."""
        return self._reused("account", config, lambda: account_client(self, "iam", config))

    def stack_client(self, config: Any, region: str) -> Any:
        """Return the CloudFormation client of a region that acts in the account that was entered."""
        create = partial(account_client, self, "cloudformation", config, region)
        return self._reused(f"stacks {region}", config, create)

    def _reused(self, name: str, config: Any, create: Callable[[], Any]) -> Any:
        key = f"{name} {config._user_provided_options}"
        if key not in self._clients:
            self._clients[key] = create()
        return self._clients[key]


class _Application(Application):
    """An application that shares its clients with those of earlier tests."""

    _session: ReusingSession

    @cached_property
    def _iam(self) -> Any:
        return self._session.account_client(self._config)

    @cached_property
    def _source_iam(self) -> Any:
        return self._session.account_client(publish_config(self._settings.threads))

    def _stack_clients(self) -> dict[str, Any]:
        return {region: self._session.stack_client(self._config, region) for region in REGIONS}


class Stage(Queues, Tables):
    """A stage with some parameters; constructed again with others, it is the same stage after a change of settings.

    Unless `deployed` is "false", publish runs once, as after every deployment.
    """

    def __init__(self, organization: Organization, stage: str = "test", **parameters: str) -> None:
        deployed = parameters.pop("deployed", "true") == "true"
        super().__init__(organization, stage, parameters)
        self._applications: dict[str, Application] = {}
        self.move_tasks: list[dict[str, str]] = []
        self.stack_of_roles: str | None = None  # the stack that contains every member role
        if deployed and "PUBLISH_FUNCTION" in self.environ:
            self.run_publish()
            metrics.clear_metrics()

    # Functions.

    def activate(self) -> None:
        """Attribute the functions' calls to this stage, so that they are checked against its policies."""
        boundary = self.organization.boundary
        boundary.signers = self.signers
        # moto has no message move tasks.
        boundary.respond("sqs:ListMessageMoveTasks", lambda _: {"Results": list(self.move_tasks)})
        boundary.respond("sqs:StartMessageMoveTask", self.redrive)
        boundary.respond("lambda:Invoke", self._invoke)
        boundary.respond("resource-groups-tagging-api:GetResources", self.organization.tagged_resources)
        # moto's CloudFormation needs packages that are not installed, and doesn't find stacks by resource.
        boundary.respond("cloudformation:DescribeStackResources", self._find_stack)

    def _application(self, function: str) -> Application:
        self.activate()
        if function not in self._applications:
            clock, session = self.organization.clock, self.organization.functions[function]
            self._applications[function] = _Application(self.environ, session, clock=clock, pause=clock.pause)
        return self._applications[function]

    def run(self, function: str, request: Any = None, *, seconds: float = 600.0) -> dict[str, Any]:
        """Run a function that operators and schedules invoke, and return its response as Lambda serializes it."""
        application = self._application(function)
        response = getattr(application, function)({} if request is None else request, Context(seconds))
        return dict(json.loads(json.dumps(response)))

    def run_and_drain(self, function: str, **request: Any) -> dict[str, Any]:
        """Run a function, deliver the messages that it enqueued, and return its response."""
        response = self.run(function, request)
        self.drain()
        return response

    def run_publish(
        self, records: Sequence[dict[str, Any]] = (), *, seconds: float = 120.0, request_id: str = ""
    ) -> dict[str, Any]:
        """Run publish with some messages, or as freeze invokes it without any."""
        context = Context(seconds, aws_request_id=request_id or str(uuid4()))
        return self._application("publish").publish(list(records), context)

    def _find_stack(self, params: Mapping[str, Any]) -> dict[str, Any]:
        name = params["PhysicalResourceId"]
        if self.stack_of_roles is None:
            error: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack for {name} does not exist"}}
            raise ClientError(error, "DescribeStackResources")
        resource = {"PhysicalResourceId": name, "ResourceStatus": "CREATE_COMPLETE"}
        return {"StackResources": [{"StackName": self.stack_of_roles, **resource}]}

    def _invoke(self, params: Mapping[str, Any]) -> dict[str, Any]:
        assert (params["FunctionName"], params["InvocationType"]) == (
            self._values["Publish.Arn"].rpartition(":")[2],
            "RequestResponse",
        )
        assert self.run_publish(json.loads(params["Payload"])["Records"]) == {"batchItemFailures": []}
        return {"StatusCode": 200}

    def announce(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Run announce_outcome with some records of the ledger's stream."""
        self.activate()
        return announcing(self.environ, self.organization.functions["announce_outcome"])(list(records))

    def send_event(self, name: str, account_id: str) -> None:
        """Deliver an event that names an account, or another target of a policy or tag."""
        self._application("on_account_event").enqueue(event(name, account_id))

    def enroll(self, *account_ids: str, seconds: float = 600.0) -> Delivery:
        """Enqueue some accounts, deliver them as one batch, and publish."""
        self.enqueue(*account_ids)
        return self.deliver(seconds)

    def enroll_members(self, count: int) -> list[str]:
        """Create members and backfill, which enrolls them and the management account."""
        accounts = self.organization.members(count)
        self.run_and_drain("backfill")
        assert {self.status(each) for each in (MANAGEMENT, *accounts)} == {("enrolled", None)}
        return accounts

    def open_second_shard(self) -> tuple[str, str]:
        """Enroll an account, whose shard is full by its record, and another one, which opens the second shard."""
        first, second = self.organization.member("First"), self.organization.member("Second")
        self.enroll(first)
        self.set_recorded(SOURCE_POLICY, self.full_shard(first))
        self.enroll(second)
        assert self.organization.granted(SECOND_SHARD) == {second}
        return first, second

    def uninstall(self, *, seconds: float = 600.0) -> list[dict[str, Any]]:
        """Retire everything, following the `next` of each response, and return the responses."""
        responses: list[dict[str, Any]] = []
        request: dict[str, Any] | None = {"accounts": "all", "force": True}
        while request is not None:
            assert len(responses) < 10
            responses.append(self.run("retire", request, seconds=seconds))
            self.drain()
            request = responses[-1]["next"]
        return responses

    # Messages.

    def deliver(self, seconds: float = 600.0) -> Delivery:
        """Deliver one batch to enroll, then what it sent to publish."""
        delivery = self.deliver_accounts(seconds)
        self.publish()
        return delivery

    def deliver_accounts(self, seconds: float = 600.0) -> Delivery:
        """Deliver one batch to enroll, within so many seconds."""
        application, records = self._application("enroll"), self.receive()
        return self.settle(records, application.enroll(records, Context(seconds)))

    def publish(self, seconds: float = 120.0) -> Delivery:
        """Deliver the publish queue's messages until none is visible."""
        delivery = Delivery()
        while self.is_visible("PublishQueue"):
            records = self.receive("PublishQueue")
            delivery.add(self.settle(records, self.run_publish(records, seconds=seconds), "PublishQueue"))
        return delivery

    def drain(self) -> Delivery:
        """Deliver both queues' messages until only those with a delay of more than five seconds are left."""
        delivery = Delivery()
        while self.is_visible("AccountsQueue", 5) or self.is_visible("PublishQueue", 5):
            self.show_messages(5)
            self.expire_lease()
            self.publish()
            while self.is_visible("AccountsQueue"):
                delivery.add(self.deliver_accounts())
            self.publish()
        return delivery

    def skip_delays(self) -> None:
        """Make every message visible, and let the run lease expire."""
        self.expire_lease()
        self.show_messages(100_000)


Invoke = Callable[[Stage, str, Any], Any]
"""Runs a function's entry point: of a stage, by its name, with a payload."""


def planned(response: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Map each account in the response of a dry run to its outcome, reason and change."""
    return {each["account_id"]: (each["outcome"], each["reason"], each["change"]) for each in response["accounts"]}


def event(name: str, account_id: str) -> dict[str, Any]:
    """Return an event that names an account; the unit tests of events cover their other forms."""
    detail: dict[str, dict[str, Any]] = {
        "CreateAccountResult": {
            "serviceEventDetails": {"createAccountStatus": {"state": "SUCCEEDED", "accountId": account_id}}
        },
        "CloseAccountResult": {
            "serviceEventDetails": {"closeAccountStatus": {"state": "SUCCEEDED", "accountId": account_id}}
        },
        "AccountJoinedOrganization": {"serviceEventDetails": {"accountId": account_id, "joinedMethod": "INVITED"}},
        "AccountDepartedOrganization": {"serviceEventDetails": {"accountId": account_id, "departureMethod": "LEFT"}},
        "MoveAccount": {"requestParameters": {"accountId": account_id}},
        "TagResource": {"requestParameters": {"resourceId": account_id, "tags": [{"key": "env", "value": "prod"}]}},
        "UntagResource": {"requestParameters": {"resourceId": account_id, "tagKeys": ["env"]}},
        "DetachPolicy": {"requestParameters": {"policyId": "p-bvdv3rx3", "targetId": account_id}},
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
            **detail[name],
        },
    }
