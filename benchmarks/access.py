"""Measure the time from CreateAccount until the source principal can assume the member role, on the local AWS organization.

Usage: python -m benchmarks.access [--accounts NUMBER] [--json PATH]

Accounts are created one after the other. The first one, with the functions' cold starts, doesn't count.
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
_SECONDS = 60  # until it is given up
_PAUSE = 0.05  # between two attempts


def measure(number: int) -> list[float]:
    """Return the seconds of each account."""
    with TemporaryDirectory() as directory, LocalOrganization() as organization:
        package = Path(directory)
        command = [sys.executable, ".chalice/package.py", _STAGE, str(package)]
        subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
        principal = organization.create_source_principal()
        organization.deploy(_STAGE, package, {"SourcePrincipalArns": principal})
        _seconds(organization, organization.as_role(principal), "first")
        return [_seconds(organization, organization.as_role(principal), f"account-{each}") for each in range(number)]


def _seconds(organization: LocalOrganization, credentials: Credentials, name: str) -> float:
    started = time.monotonic()
    account_id = organization.create_account(name)
    while True:
        try:
            organization.assume(f"arn:aws:iam::{account_id}:role/{_ROLE}", credentials)
        except ClientError:
            if time.monotonic() - started > _SECONDS:
                raise
            time.sleep(_PAUSE)
        else:
            return time.monotonic() - started


def main() -> None:
    """Measure, and print the median."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--accounts", type=int, default=30, metavar="NUMBER")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write each account's seconds to this file")
    asked = parser.parse_args()
    seconds = measure(asked.accounts)
    if asked.json:
        asked.json.write_text(json.dumps(seconds) + "\n")
    ordered = sorted(seconds)
    print(
        f"CreateAccount until access is in force, {len(seconds)} accounts: median {median(seconds):.2f} s, "
        f"fastest {ordered[0]:.2f} s, slowest {ordered[-1]:.2f} s"
    )


main()
