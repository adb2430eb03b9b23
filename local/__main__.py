"""Leave a local AWS organization running, with the packaged app in it, for a person to try.

Usage: python -m local up [--stage STAGE] [--reader NAME]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from local.organization import REGION, LocalOrganization

_ROOT = Path(__file__).parent.parent
_ACCOUNTS = ("audit", "payments", "sandbox")

_GUIDE = """
A local AWS organization is running at {endpoint}, with Rolecall deployed in it as stage {stage}.
Real: the packaged zip and template, the functions' own policies, IAM's decisions. Emulated: AWS (by ministack).

  {management}  the management account, where Rolecall is deployed and {reader} reads from
{accounts}

These accounts were there before. In another terminal, as the management account's root:

  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={region}
  export AWS_ACCESS_KEY_ID={management} AWS_SECRET_ACCESS_KEY=test
  alias aws={aws}

Create an account. A few seconds later its role is there, and the source policy names it:

  aws organizations create-account --account-name mine --email mine@example.com
  aws organizations list-accounts --query 'Accounts[].[Id,Name,State]' --output text
  aws iam get-policy-version --version-id "$(aws iam get-policy --policy-arn {policy} --query Policy.DefaultVersionId --output text)" \\
    --policy-arn {policy} --query PolicyVersion.Document
  AWS_ACCESS_KEY_ID=<the new account's id> aws iam get-role --role-name CrossAccountReadOnlyRole

Where every account stands, and what the worker says about each:

  aws dynamodb scan --table-name rolecall-{stage}-ledger --query 'Items[].[account_id.S,outcome.S,reason.S]' --output text
  aws logs filter-log-events --log-group-name /aws/lambda/rolecall-{stage}-enroll --query 'events[].[message]' --output text

Any account's id as AWS_ACCESS_KEY_ID, with the secret `test`, is that account's root. Ctrl-C stops everything and leaves nothing.
"""


def up(stage: str, reader: str) -> None:
    """Start, deploy, explain, and wait to be stopped."""
    with tempfile.TemporaryDirectory() as made, LocalOrganization() as organization:
        package = Path(made)
        print("packaging ...", flush=True)
        subprocess.run(
            ["make", "--no-print-directory", "package", f"STAGE={stage}", f"OUT={package}"], cwd=_ROOT, check=True
        )
        accounts = {organization.create_account(name): name for name in _ACCOUNTS}
        principal = organization.create_source_principal(reader)
        print("deploying ...", flush=True)
        organization.deploy(stage, package, {"SourcePrincipalArns": principal})
        print(
            _GUIDE.format(
                endpoint=organization.endpoint_url,
                region=REGION,
                stage=stage,
                management=organization.management_account_id,
                reader=principal,
                accounts="\n".join(f"  {account_id}  {name}" for account_id, name in accounts.items()),
                policy=f"arn:aws:iam::{organization.management_account_id}:policy/CrossAccountReadOnlyAccess",
                aws=_ROOT / ".venv/bin/aws",
            ),
            flush=True,
        )
        _wait_for_ctrl_c()
        print("stopping ...", flush=True)


def _wait_for_ctrl_c() -> None:
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    stopped.wait()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--stage", default="local")
    parser.add_argument("--reader", default="Reader", help="the name of the role that may assume the member roles")
    arguments = parser.parse_args()
    try:
        up(arguments.stage, arguments.reader)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
