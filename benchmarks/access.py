"""Measure the time to access, from CreateAccount until the source principal can assume the member role, on the local AWS organization.

Usage: python -m benchmarks.access [--accounts NUMBER] [--json PATH]

Accounts are created one after the other. The first one includes the functions' cold starts and isn't counted.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from botocore.exceptions import ClientError

from local.organization import Credentials, LocalOrganization

_ROOT = Path(__file__).parents[1]
_STAGE = "access"
_ROLE = "CrossAccountReadOnlyRole"
_TIMEOUT_SECONDS = 60
_POLL_SECONDS = 0.05


def measure(count: int) -> list[float]:
    """Return the seconds to access of each account."""
    with TemporaryDirectory() as directory, LocalOrganization() as organization:
        package = Path(directory)
        command = [sys.executable, ".chalice/package.py", str(package)]
        subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
        principal = organization.create_source_principal()
        organization.deploy(_STAGE, package, {"SourcePrincipalArns": principal})
        _seconds_to_access(organization, organization.as_role(principal), "first")
        return [
            _seconds_to_access(organization, organization.as_role(principal), f"account-{each}")
            for each in range(count)
        ]


def _seconds_to_access(organization: LocalOrganization, credentials: Credentials, name: str) -> float:
    started = time.monotonic()
    account_id = organization.create_account(name)
    while True:
        try:
            organization.assume(f"arn:aws:iam::{account_id}:role/{_ROLE}", credentials)
        except ClientError:
            if time.monotonic() - started > _TIMEOUT_SECONDS:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return time.monotonic() - started


def main() -> None:
    """Measure and print the median, the fastest and the slowest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--accounts", type=int, default=30, metavar="NUMBER")
    parser.add_argument("--json", type=Path, metavar="PATH", help="Write each account's seconds to this file.")
    arguments = parser.parse_args()
    seconds = measure(arguments.accounts)
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds) + "\n")
    ordered = sorted(seconds)
    print(
        f"CreateAccount until access is in force, {len(seconds)} accounts: median {median(seconds):.2f} s, "
        f"fastest {ordered[0]:.2f} s, slowest {ordered[-1]:.2f} s"
    )


main()
