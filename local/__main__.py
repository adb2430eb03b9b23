"""Run a local AWS organization of four accounts until Ctrl-C, to deploy Rolecall to and to try things by hand.

Usage: python -m local
"""

import fcntl
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.organization import REGION, LocalOrganization

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "build" / "local" / "aws-config"
_ACCOUNTS = ("audit", "payments", "sandbox")

_GUIDE = """
A local AWS organization is running at {endpoint}. Its IAM evaluates policies; ministack emulates the rest of AWS.

  {management}  management account, with the role Reader, the source principal
{accounts}

In another terminal, use its profiles: management (root of the management account) and reader (the role Reader).

  export AWS_CONFIG_FILE="{config}" AWS_PROFILE=management

Then run deploy, backfill and prove as in README. Ctrl-C stops the organization and deletes everything in it.
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, which ends with the process. Exit if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(
                f"a local organization is already running in {ROOT}: use its profiles in {CONFIG}, or stop it with Ctrl-C in its "
                "terminal"
            )
        yield


def write_profiles(organization: LocalOrganization, reader: str, path: Path) -> None:
    """Write an AWS config file with the profiles management and reader; they reach the local organization only."""
    account_id = organization.management_account_id
    shared = f"region = {REGION}\nendpoint_url = {organization.endpoint_url}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"[profile management]\naws_access_key_id = {account_id}\naws_secret_access_key = test\n{shared}\n"
        f"[profile reader]\nrole_arn = {reader}\nsource_profile = management\n{shared}",
        encoding="utf-8",
    )


def run() -> None:
    """Start the organization, print a guide, and run until SIGINT or SIGTERM. Exit if one runs already."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with locked(CONFIG.with_name("lock")), LocalOrganization() as organization:
        accounts = {organization.create_account(name): name for name in _ACCOUNTS}
        write_profiles(organization, organization.create_source_principal("Reader"), CONFIG)
        guide = _GUIDE.format(
            endpoint=organization.endpoint_url,
            management=organization.management_account_id,
            accounts="\n".join(f"  {account_id}  {name}" for account_id, name in accounts.items()),
            config=CONFIG,
        )
        print(guide, flush=True)
        stopped.wait()
        CONFIG.unlink(missing_ok=True)
        print("stopping ...", file=sys.stderr)


if __name__ == "__main__":
    run()
