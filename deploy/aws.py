"""The AWS command line, and the questions that both deploying and undeploying ask of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import botocore.session
from boto3.dynamodb.types import TypeDeserializer

from rolecall.regions import EVENT_REGIONS

Aws: TypeAlias = Callable[..., Any]
"""Runs one AWS command and answers what it printed, read as JSON; a CommandError tells what went wrong."""


Run: TypeAlias = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs the AWS CLI with some arguments."""


class DeployError(Exception):
    """It can't be deployed or undeployed; the message says why and what to do."""


class CommandError(DeployError):
    """An AWS command failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the credentials in use lead to."""

    partition: str
    account_id: str
    region: str


def command_line(region: str, run: Run | None = None) -> Aws:
    """Make commands for a region run by the AWS CLI, that of this virtual environment unless another is given."""
    running = run or _installed

    def answer(*arguments: str) -> Any:  # noqa: ANN401 - whatever the command answers
        ran = running([*arguments, "--region", region, "--output", "json"])
        if ran.returncode:
            said = "\n".join(line for line in ran.stderr.splitlines() if line and not line.startswith("Uploading to "))
            raise CommandError(f"aws {' '.join(arguments[:2])}: {said or ran.stdout.strip()}")
        return json.loads(ran.stdout) if ran.stdout.lstrip().startswith(("{", "[")) else None

    return answer


def _installed(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("aws")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def configured_region() -> str:
    """Tell the region that the environment or the profile names."""
    named = os.environ.get("AWS_REGION") or botocore.session.Session().get_config_variable("region")
    return str(named or EVENT_REGIONS["aws"])


def place(aws: Aws, region: str) -> Place:
    """Find out where we are, and refuse where no event of the organization would ever be heard."""
    caller = aws("sts", "get-caller-identity")
    here = Place(partition=caller["Arn"].split(":")[1], account_id=caller["Account"], region=region)
    heard = EVENT_REGIONS.get(here.partition, region)
    if region != heard:
        raise DeployError(
            f"the region is {region}, and the organization's events are heard in {heard} alone: say AWS_REGION={heard}, "
            f"with a bucket of that region"
        )
    leader = aws("organizations", "describe-organization")["Organization"]["MasterAccountId"]
    if here.account_id != leader:
        raise DeployError(
            f"the credentials are of account {here.account_id}, and the organization's management account is {leader}: only "
            "there are its events heard and its access roles trusted"
        )
    return here


def stack(aws: Aws, name: str) -> dict[str, Any] | None:
    """Describe a stack, or tell by None that there is none."""
    try:
        described: dict[str, Any] = aws("cloudformation", "describe-stacks", "--stack-name", name)["Stacks"][0]
    except CommandError as error:
        if "does not exist" in str(error):
            return None
        raise
    return described


def table_exists(aws: Aws, name: str) -> bool:
    """Tell whether there is a table of that name."""
    try:
        aws("dynamodb", "describe-table", "--table-name", name)
    except CommandError as error:
        if "ResourceNotFoundException" in str(error):
            return False
        raise
    return True


def item(aws: Aws, table: str, **key: str) -> dict[str, Any]:
    """Return a table's item of a key; empty if there is none."""
    names = {name: {"S": value} for name, value in key.items()}
    found = aws("dynamodb", "get-item", "--consistent-read", "--table-name", table, "--key", json.dumps(names)) or {}
    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in found.get("Item", {}).items()}


def delete_stack(aws: Aws, name: str) -> None:
    """Delete a stack and wait until it is gone."""
    aws("cloudformation", "delete-stack", "--stack-name", name)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", name)
