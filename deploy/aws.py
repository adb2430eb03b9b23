"""The AWS CLI, and the commands that both deploying and undeploying need."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import botocore.session
from boto3.dynamodb.types import TypeDeserializer

from rolecall.partitions import EVENT_REGIONS

Aws: TypeAlias = Callable[..., Any]
"""Runs one AWS CLI command and returns its parsed JSON output. Raises AwsCommandError if it fails.

With `session`, the credentials that AssumeRole returned, it acts in another account.
"""

Run: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], "subprocess.CompletedProcess[str]"]
"""Runs the AWS CLI with some arguments, and some variables in addition to its environment."""


_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AccessKeyId",
    "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
    "AWS_SESSION_TOKEN": "SessionToken",
}


class DeployError(Exception):
    """The stage can't be deployed or undeployed; the message has the reasons and what to do."""


class AwsCommandError(DeployError):
    """An AWS CLI command failed; the message is its output."""


@dataclass(frozen=True, slots=True)
class Location:
    """The partition, account and region of the credentials."""

    partition: str
    account_id: str
    region: str


def aws_cli(region: str, run: Run | None = None) -> Aws:
    """Return the AWS CLI for a region, by default the one of this virtual environment."""
    run_command = run or _run_installed

    def aws(*arguments: str, session: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - depends on the command
        keys = {variable: session[name] for variable, name in _CREDENTIALS.items()} if session else {}
        result = run_command([*arguments, "--region", region, "--output", "json"], keys)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line and not line.startswith("Uploading to ")]
            output = "\n".join(lines) or result.stdout.strip()
            raise AwsCommandError(f"aws {' '.join(arguments[:2])}: {output}")
        return json.loads(result.stdout) if result.stdout.lstrip().startswith(("{", "[")) else None

    return aws


def _run_installed(arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    program, environment = Path(sys.executable).with_name("aws"), {**os.environ, **variables}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)


def configured_region() -> str:
    """Return the region of the environment or of the profile; by default the one with the organization's events."""
    region = os.environ.get("AWS_REGION") or botocore.session.Session().get_config_variable("region")
    return str(region or EVENT_REGIONS["aws"])


def check_location(aws: Aws, region: str) -> Location:
    """Return the location of the credentials. Raise DeployError if organization events aren't delivered there."""
    caller = aws("sts", "get-caller-identity")
    location = Location(partition=caller["Arn"].split(":")[1], account_id=caller["Account"], region=region)
    event_region = EVENT_REGIONS.get(location.partition, region)
    if region != event_region:
        raise DeployError(
            f"the region is {region}, and organization events are delivered only in {event_region}: set "
            f"AWS_REGION={event_region}, and use a bucket in that region"
        )
    management = aws("organizations", "describe-organization")["Organization"]["MasterAccountId"]
    if location.account_id != management:
        raise DeployError(
            f"the credentials are of account {location.account_id}, and the organization's management account is {management}: "
            "use credentials of the management account, where events are delivered and which access roles trust"
        )
    return location


def describe_stack(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return a stack's description, or None if it does not exist."""
    try:
        stack: dict[str, Any] = aws("cloudformation", "describe-stacks", "--stack-name", name)["Stacks"][0]
    except AwsCommandError as error:
        if "does not exist" in str(error):
            return None
        raise
    return stack


def table_exists(aws: Aws, name: str) -> bool:
    """Whether a table exists."""
    try:
        aws("dynamodb", "describe-table", "--table-name", name)
    except AwsCommandError as error:
        if "ResourceNotFoundException" in str(error):
            return False
        raise
    return True


def get_item(aws: Aws, table: str, **key: str) -> dict[str, Any]:
    """Return a table's item, or an empty dict if it does not exist."""
    names = {name: {"S": value} for name, value in key.items()}
    found = aws("dynamodb", "get-item", "--consistent-read", "--table-name", table, "--key", json.dumps(names)) or {}
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in found.get("Item", {}).items()}


def delete_stack(aws: Aws, name: str) -> None:
    """Delete a stack, and wait until it is deleted."""
    aws("cloudformation", "delete-stack", "--stack-name", name)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", name)
