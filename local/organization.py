"""A local AWS organization, from outside: accounts, clients for them, and the app in the management account."""

import contextlib
import json
import secrets
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

from local.controls import Controls
from local.deployment import deploy_stack
from local.server import Server
from local.waiting import wait_until
from rolecall.deploy.location import Location

Document = Mapping[str, Any]
Credentials = Mapping[str, str]

REGION = "us-east-1"
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 2})
_MAX_INVOCATION_SECONDS = 900
_LAMBDA_CONFIG = _CONFIG.merge(Config(read_timeout=_MAX_INVOCATION_SECONDS, retries={"total_max_attempts": 1}))


class InvocationError(Exception):
    """A function failed or rejected its payload; the message is the error's."""


class LocalOrganization(Controls):
    """A context manager that runs an organization, at first with only a management account.

    Functions' code is unpacked to `unpacked`, if given, which stays and can be shared: Python compiles it only once.
    """

    def __init__(self, management_account_id: str = "111122223333", unpacked: Path | None = None) -> None:
        self.management_account_id = management_account_id
        self._unpacked = unpacked

    def __enter__(self) -> Self:
        self._clients: dict[tuple[str, str], Any] = {}
        self._session: Any = boto3.Session()  # Any: its stubs are overloaded by literal service names
        self._server = Server(self.management_account_id, self._unpacked)
        self.endpoint_url = self._server.endpoint_url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        self._server.stop()

    def reset(self) -> None:
        """Delete everything in all accounts, and begin with a new organization."""
        self._server.control("reset")

    @property
    def organization_id(self) -> str:
        """The organization's id."""
        return str(self.client("organizations").describe_organization()["Organization"]["Id"])

    def client(self, service: str, account_id: str | None = None, credentials: Credentials | None = None) -> Any:
        """Return a client for root of an account, by default the management account, or for a session's credentials."""
        keys = credentials or {"AccessKeyId": account_id or self.management_account_id, "SecretAccessKey": "test"}
        key = (service, keys["AccessKeyId"])
        if key not in self._clients:
            self._clients[key] = self._session.client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint_url,
                aws_access_key_id=keys["AccessKeyId"],
                aws_secret_access_key=keys["SecretAccessKey"],
                aws_session_token=keys.get("SessionToken"),
                config=_LAMBDA_CONFIG if service == "lambda" else _CONFIG,
            )
        return self._clients[key]

    def assume(self, role_arn: str, credentials: Credentials | None = None, **request: Any) -> Credentials:
        """Assume a role, as root of the management account or with a session's credentials."""
        sts = self.client("sts", credentials=credentials)
        session: Credentials = sts.assume_role(RoleArn=role_arn, **{"RoleSessionName": "local"} | request)[
            "Credentials"
        ]
        return session

    def as_role(self, role_arn: str) -> Credentials:
        """Assume a role as root of the role's own account."""
        sts = self.client("sts", role_arn.split(":")[4])
        session: Credentials = sts.assume_role(RoleArn=role_arn, RoleSessionName="local")["Credentials"]
        return session

    def create_account(self, name: str, *, wait: bool = True) -> str:
        """Create an account with Organizations, and return its id, or the request's id without waiting."""
        request = {"AccountName": name, "Email": f"{name}-{secrets.token_hex(4)}@example.com"}
        status = self.client("organizations").create_account(**request)["CreateAccountStatus"]
        return self._wait_for_account(status["Id"]) if wait else str(status["Id"])

    def create_accounts(self, count: int) -> list[str]:
        """Create several accounts at the same time, and return their ids."""
        request_ids = [self.create_account(f"account-{number}", wait=False) for number in range(1, count + 1)]
        return [self._wait_for_account(request_id) for request_id in request_ids]

    def _wait_for_account(self, request_id: str) -> str:
        def account_id() -> str | None:
            response = self.client("organizations").describe_create_account_status(CreateAccountRequestId=request_id)
            created: str | None = response["CreateAccountStatus"].get("AccountId")
            return created

        return wait_until(account_id, f"the account of {request_id} is created")

    def invite_account(self, account_id: str | None = None) -> str:
        """Invite an existing account and accept the invitation: the account has no access role. Return its id."""
        account_id = account_id or "".join(secrets.choice("0123456789") for _ in range(12))
        target = {"Type": "ACCOUNT", "Id": account_id}
        handshake = self.client("organizations").invite_account_to_organization(Target=target)["Handshake"]
        self.client("organizations", account_id).accept_handshake(HandshakeId=handshake["Id"])
        return account_id

    def create_role(
        self,
        account_id: str,
        name: str,
        trust: Document,
        policies: Sequence[str] = (),
        inline: Document | None = None,
        path: str = "/",
    ) -> str:
        """Create a role with managed policies and at most one inline policy, and return its ARN."""
        iam = self.client("iam", account_id)
        role = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        for policy in policies:
            iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        if inline:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(inline))
        return str(role["Arn"])

    def create_source_principal(self, name: str = "Reader", account_id: str | None = None) -> str:
        """Create a role without permissions that every principal of its account may assume, and return its ARN."""
        account = account_id or self.management_account_id
        return self.create_role(account, name, trust_policy(f"arn:aws:iam::{account}:root"))

    def deploy(self, stage: str, package_dir: Path, parameters: Mapping[str, str]) -> dict[str, str]:
        """Deploy or update a package (template.json and deployment.zip), and return the stack's outputs.

        Like `rolecall deploy`, invoke publish afterwards; an error of that run is only in its log.
        Raise FailedError if the deployment fails, or CommandError if CloudFormation rejects it.
        """
        outputs = deploy_stack(
            self.client("s3"),
            self.client("cloudformation"),
            Location("aws", self.management_account_id, REGION),
            stage,
            package_dir,
            parameters,
        )
        if "PublishFunction" in outputs:
            with contextlib.suppress(InvocationError):
                self.start_publish(stage)
        return outputs

    def start_publish(self, stage: str) -> Any:
        """Invoke publish without a message, and return its response. Raise InvocationError if it fails."""
        return self.invoke(f"rolecall-{stage}-publish", {"Records": []})

    def invoke(self, function: str, payload: object, credentials: Credentials | None = None) -> Any:
        """Invoke a function, and return its response. Raise InvocationError if it fails or rejects the payload."""
        client = self.client("lambda", credentials=credentials)
        response = client.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
        result = json.loads(response["Payload"].read())
        if "FunctionError" in response or (isinstance(result, dict) and "errorMessage" in result):
            raise InvocationError(result["errorMessage"])
        return result

    def alarm_states(self) -> dict[str, str]:
        """Evaluate all alarms, and return their states by name."""
        pages = self.client("cloudwatch").get_paginator("describe_alarms").paginate()
        return {alarm["AlarmName"]: alarm["StateValue"] for page in pages for alarm in page["MetricAlarms"]}

    def ledger(self, stage: str) -> dict[str, dict[str, Any]]:
        """Return the ledger's rows by account id."""
        paginator = self.client("dynamodb").get_paginator("scan")
        pages = paginator.paginate(TableName=f"rolecall-{stage}-ledger", ConsistentRead=True)
        deserialize = TypeDeserializer().deserialize
        items = [item for page in pages for item in page["Items"]]
        rows = [{name: deserialize(value) for name, value in item.items()} for item in items]
        return {row["account_id"]: row for row in rows}

    def logs(self, function: str) -> list[str]:
        """Return the lines that a function has logged; none before its first invocation."""
        logs = self.client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        try:
            return [event["message"].rstrip("\n") for page in pages for event in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


def trust_policy(
    *principals: str, actions: Sequence[str] = ("sts:AssumeRole",), condition: Document | None = None
) -> Document:
    """Return a trust policy with one statement."""
    statement = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": list(actions)}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}


def allow_policy(
    *actions: str, resource: str | Sequence[str] | Document = "*", condition: Document | None = None
) -> Document:
    """Return an identity policy with one Allow statement."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}
