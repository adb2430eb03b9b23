"""A command that `rolecall doctor` suggests, run by the AWS CLI."""

import shlex
import subprocess
from pathlib import Path

from local.organization import REGION, LocalOrganization
from rolecall.doctor.trail import check_trails
from tests.end_to_end.command_line import CommandLine
from verify.installed_tools import aws_cli

ROOT = Path(__file__).parents[1]


def test_suggested_command_creates_a_trail(organization: LocalOrganization) -> None:
    aws, *arguments = shlex.split(check_trails([], REGION).remedy or "")
    assert aws == "aws"

    environment = CommandLine(organization, "none").environment()
    subprocess.run([aws_cli(), *arguments], cwd=ROOT, env=environment, check=True)

    trails = organization.client("cloudtrail").describe_trails()["trailList"]
    assert [each["Name"] for each in trails] == ["management-events"]
