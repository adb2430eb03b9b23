"""The command line as an operator runs it, on the local AWS organization."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.organization import REGION, LocalOrganization

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class CommandLine:
    """Runs `rolecall` as root of the management account, unless the environment has other credentials."""

    organization: LocalOrganization
    stage: str

    def environment(self, **more: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_"))}
        return own | {
            "AWS_ENDPOINT_URL": self.organization.endpoint_url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.organization.management_account_id,
            "AWS_SECRET_ACCESS_KEY": "test",
            "COLUMNS": "160",
            **more,
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command with its output in a pipe."""
        return subprocess.run(
            [sys.executable, "-m", "rolecall", "--stage", self.stage, *arguments],
            cwd=ROOT,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
