"""A local AWS organization, from outside: its accounts, clients into them, and the app deployed in its management account."""

import json
import secrets
import types
from collections.abc import Mapping, Sequence
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


class LocalOrganization:
    """Starts an organization that has only its management account; leaving the context stops it and leaves nothing behind."""

    def __init__(self, management_account_id: str = "111122223333") -> None:
        self.management_account_id = management_account_id

    def __enter__(self) -> Self:
        self._clients: dict[tuple[str, str], Any] = {}
        self._session: Any = boto3.Session()  # whose stubs know each service by a literal
        self._server = Server(self.management_account_id)
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
                config=_CONFIG,
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
        if not wait:
            return request_id

        def finished() -> str | None:
            answer = organizations.describe_create_account_status(CreateAccountRequestId=request_id)
            account_id: str | None = answer["CreateAccountStatus"].get("AccountId")
            return account_id

        return until(finished, f"account {name} is created")

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

    def set_ready_delay(self, seconds: float) -> None:
        """Let access roles be assumable so long after their account is created; no account waits for longer from now on."""
        self._server.control("switch", ready_delay=seconds)

    def drop_events(self, dropped: bool) -> None:  # noqa: FBT001 - a switch
        """Lose, or no longer lose, every event of Organizations."""
        self._server.control("switch", drop_events=dropped)

    def skip_delays(self, queue: str) -> None:
        """Let every message of a queue be received now, whatever its delay or visibility timeout."""
        self._server.control("skip_delays", queue=queue)

    def deploy(self, stage: str, package_dir: Path, parameters: Mapping[str, str]) -> dict[str, str]:
        """Deploy or update a package (template.yaml and deployment.zip) in the management account; a DeploymentError says why not."""
        return deploy_stack(
            self.client("s3"), self.client("cloudformation"), f"rolecall-{stage}", package_dir, parameters
        )

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
