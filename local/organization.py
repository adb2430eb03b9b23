"""A local AWS organization, from outside: its accounts, clients into them, and the app deployed in its management account."""

import contextlib
import json
import secrets
import types
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

from local.deployment import deploy_stack
from local.server import Server
from local.waiting import until

Document = Mapping[str, Any]
Credentials = Mapping[str, str]

REGION = "us-east-1"
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 2})
_LONGEST_INVOCATION = 900
_LAMBDA_CONFIG = _CONFIG.merge(Config(read_timeout=_LONGEST_INVOCATION, retries={"total_max_attempts": 1}))


class InvocationError(Exception):
    """A function ended with an error, whose message this is."""


class LocalOrganization:
    """Starts an organization that has only its management account; leaving the context stops it and leaves nothing behind.

    Where a directory is given for what functions' zips hold, others may share it, and it stays: no start compiles that again.
    """

    def __init__(self, management_account_id: str = "111122223333", unpacked: Path | None = None) -> None:
        self.management_account_id = management_account_id
        self._unpacked = unpacked

    def __enter__(self) -> Self:
        self._clients: dict[tuple[str, str], Any] = {}
        self._session: Any = boto3.Session()  # whose stubs know each service by a literal
        self._server = Server(self.management_account_id, self._unpacked)
        self.endpoint_url = self._server.endpoint_url
        self.organization_id: str = self.client("organizations").describe_organization()["Organization"]["Id"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        self._server.stop()

    def client(self, service: str, account_id: str | None = None, credentials: Credentials | None = None) -> Any:
        """Make a client for an account's root (the management account's by default), or for a session's credentials."""
        keys = credentials or {"AccessKeyId": account_id or self.management_account_id, "SecretAccessKey": "test"}
        known = (service, keys["AccessKeyId"])
        if known not in self._clients:
            self._clients[known] = self._session.client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint_url,
                aws_access_key_id=keys["AccessKeyId"],
                aws_secret_access_key=keys["SecretAccessKey"],
                aws_session_token=keys.get("SessionToken"),
                config=_LAMBDA_CONFIG if service == "lambda" else _CONFIG,
            )
        return self._clients[known]

    def assume(self, role_arn: str, credentials: Credentials | None = None, **request: Any) -> Credentials:
        """Assume a role, as the management account's root or with a session's credentials; `request` as AssumeRole has it."""
        sts = self.client("sts", credentials=credentials)
        answer = sts.assume_role(RoleArn=role_arn, **{"RoleSessionName": "local"} | request)
        found: Credentials = answer["Credentials"]
        return found

    def create_account(self, name: str, role_name: str | None = None, *, wait: bool = True) -> str:
        """Have Organizations create an account; without waiting, the answer is the id of the request."""
        organizations = self.client("organizations")
        request = {"AccountName": name, "Email": f"{name}-{secrets.token_hex(4)}@example.com"}
        asked = organizations.create_account(**request | ({"RoleName": role_name} if role_name else {}))
        request_id = str(asked["CreateAccountStatus"]["Id"])
        return self._created(request_id) if wait else request_id

    def create_accounts(self, count: int) -> list[str]:
        """Have Organizations create many accounts at the same time, and tell their ids."""
        request_ids = [self.create_account(f"account-{number}", wait=False) for number in range(1, count + 1)]
        return [self._created(request_id) for request_id in request_ids]

    def _created(self, request_id: str) -> str:
        def account_id() -> str | None:
            answer = self.client("organizations").describe_create_account_status(CreateAccountRequestId=request_id)
            found: str | None = answer["CreateAccountStatus"].get("AccountId")
            return found

        return until(account_id, f"the account of {request_id} is created")

    def invite_account(self, account_id: str | None = None) -> str:
        """Have an account outside the organization join it by invitation: it has no access role."""
        invited = account_id or "".join(secrets.choice("0123456789") for _ in range(12))
        target = {"Type": "ACCOUNT", "Id": invited}
        handshake = self.client("organizations").invite_account_to_organization(Target=target)["Handshake"]
        self.client("organizations", account_id=invited).accept_handshake(HandshakeId=handshake["Id"])
        return invited

    def create_role(
        self,
        account_id: str,
        name: str,
        trust: Document,
        policies: Sequence[str] = (),
        inline: Document | None = None,
        path: str = "/",
    ) -> str:
        """Create a role, with managed policies attached and at most one inline policy, and tell its ARN."""
        iam = self.client("iam", account_id)
        role = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        for policy in policies:
            iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        if inline:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(inline))
        return str(role["Arn"])

    def create_source_principal(self, name: str = "Reader", account_id: str | None = None) -> str:
        """Create a role that may do nothing yet, which any principal of its own account may assume, and tell its ARN."""
        account = account_id or self.management_account_id
        return self.create_role(account, name, trusting(f"arn:aws:iam::{account}:root"))

    def as_role(self, role_arn: str) -> Credentials:
        """Assume a role of an account as that account's own root."""
        sts = self.client("sts", role_arn.split(":")[4])
        found: Credentials = sts.assume_role(RoleArn=role_arn, RoleSessionName="local")["Credentials"]
        return found

    def set_account_state(self, account_id: str, state: str) -> None:
        """Bring an account into PENDING_ACTIVATION, ACTIVE, SUSPENDED, PENDING_CLOSURE or CLOSED, without an event."""
        self._server.control("set_account_state", account_id=account_id, state=state)

    def age_account(self, account_id: str, seconds: float) -> None:
        """Let an account have joined so much earlier."""
        self._server.control("age_account", account_id=account_id, seconds=seconds)

    def set_ready_delay(self, seconds: float) -> None:
        """Let access roles be assumable so long after their account is created; no account waits for longer from now on."""
        self._server.control("switch", ready_delay=seconds)

    def drop_events(self, dropped: bool) -> None:  # noqa: FBT001 - a switch
        """Lose, or no longer lose, every event of Organizations."""
        self._server.control("switch", drop_events=dropped)

    def hide_accounts(self, account_ids: Iterable[str]) -> None:
        """Leave accounts out of every listing from now on, and no others; DescribeAccount still knows them."""
        self._server.control("switch", hidden_accounts=list(account_ids))

    def set_move_delay(self, seconds: float) -> None:
        """Let message move tasks that are started from now on take so long."""
        self._server.control("switch", move_seconds=seconds)

    def throttle(self, every: int) -> None:
        """Throttle each so-manieth call that the functions make of IAM, STS and Organizations; none with 0."""
        self._server.control("switch", throttle_every=every)

    def slow_iam(self, seconds: float) -> None:
        """Let each call that the functions make of IAM take so much longer."""
        self._server.control("switch", iam_seconds=seconds)

    def kill(self, function: str) -> None:
        """Kill the processes that run a function now; a ValueError says that none runs."""
        self._server.control("kill", function=function)

    def fire(self, rule: str) -> None:
        """Fire a scheduled rule now; a ValueError tells that it isn't there, isn't scheduled or is disabled."""
        self._server.control("fire", rule=rule)

    def skip_delays(self, queue: str) -> None:
        """Let every message of a queue be received now, whatever its delay or visibility timeout."""
        self._server.control("skip_delays", queue=queue)

    def deploy(self, stage: str, package_dir: Path, parameters: Mapping[str, str]) -> dict[str, str]:
        """Deploy or update a package (template.yaml and deployment.zip) in the management account; a DeploymentError says why not.

        A stage is started as `make deploy` starts it; a failure of that run is in the log of publish.
        """
        outputs = deploy_stack(
            self.client("s3"), self.client("cloudformation"), f"rolecall-{stage}", package_dir, parameters
        )
        if "PublishFunction" in outputs:
            with contextlib.suppress(InvocationError):
                self.start_publish(stage)
        return outputs

    def start_publish(self, stage: str) -> Any:
        """Run publish once, without a message, and return its answer. Raises InvocationError if it fails."""
        return self.invoke(f"rolecall-{stage}-publish", {"Records": []})

    def invoke(self, function: str, payload: object, credentials: Credentials | None = None) -> Any:
        """Invoke a function, and wait for its answer; an InvocationError tells how it ended otherwise."""
        client = self.client("lambda", credentials=credentials)
        answered = client.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
        answer = json.loads(answered["Payload"].read())
        if "FunctionError" in answered:
            raise InvocationError(answer["errorMessage"])
        return answer

    def metric(self, name: str, statistic: str = "Sum", namespace: str = "Rolecall", **dimensions: str) -> list[float]:
        """Read what a metric of exactly these dimensions measured, second by second, of the last day."""
        now = datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - timedelta(days=1),
            EndTime=now + timedelta(minutes=1),
            Period=1,
            Statistics=[statistic],
        )["Datapoints"]
        return [point[statistic] for point in sorted(points, key=lambda point: point["Timestamp"])]

    def age_metrics(self, seconds: float) -> None:
        """Let everything that was measured so far have been measured so much earlier: for alarms, time passes."""
        self._server.control("age_metrics", seconds=seconds)

    def alarm_states(self) -> dict[str, str]:
        """Evaluate every alarm, and tell the states by the alarms' names."""
        pages = self.client("cloudwatch").get_paginator("describe_alarms").paginate()
        return {alarm["AlarmName"]: alarm["StateValue"] for page in pages for alarm in page["MetricAlarms"]}

    def ledger(self, stage: str) -> dict[str, dict[str, Any]]:
        """Read the ledger's rows, by account id."""
        pages = (
            self.client("dynamodb")
            .get_paginator("scan")
            .paginate(TableName=f"rolecall-{stage}-ledger", ConsistentRead=True)
        )
        read = TypeDeserializer().deserialize
        rows = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
        return {row["account_id"]: row for row in rows}

    def logs(self, function: str) -> list[str]:
        """Read what a function has logged, line by line."""
        logs = self.client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        try:
            return [event["message"].rstrip("\n") for page in pages for event in page["events"]]
        except logs.exceptions.ResourceNotFoundException:  # until it is called for the first time
            return []

    def server_log(self) -> str:
        """Read what the server itself has logged."""
        return self._server.log.read_text()


def trusting(
    *principals: str, actions: Sequence[str] = ("sts:AssumeRole",), condition: Document | None = None
) -> Document:
    """Write a trust policy of one statement."""
    statement = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": list(actions)}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}


def allowing(
    *actions: str, resource: str | Sequence[str] | Document = "*", condition: Document | None = None
) -> Document:
    """Write an identity policy of one statement."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}
