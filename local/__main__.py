"""Run a local AWS organization with the packaged app in it until Ctrl-C, to try things by hand.

Usage: python -m local up [--stage STAGE] [--reader NAME]
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from local.organization import REGION, LocalOrganization

_ROOT = Path(__file__).parent.parent
_ACCOUNTS = ("audit", "payments", "sandbox")

_GUIDE = """
A local AWS organization is running at {endpoint}, with Rolecall deployed as stage {stage}.
Real: the packaged zip and template, the functions' policies. Emulated, by ministack: AWS, IAM's evaluation of the policies included.

  {management}  management account: Rolecall is deployed here; the source principal is {reader}
{accounts}

These accounts were created before the deployment. In another terminal, as root of the management account:

  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={region}
  export AWS_ACCESS_KEY_ID={management} AWS_SECRET_ACCESS_KEY=test
  alias aws={aws}

Create an account. After a few seconds it has the member role, and the source policy grants access to it:

  aws organizations create-account --account-name mine --email mine@example.com
  aws organizations list-accounts --query 'Accounts[].[Id,Name,State]' --output text
  aws iam get-policy-version --version-id "$(aws iam get-policy --policy-arn {policy} --query Policy.DefaultVersionId --output text)" \\
    --policy-arn {policy} --query PolicyVersion.Document
  AWS_ACCESS_KEY_ID=<the new account's id> aws iam get-role --role-name CrossAccountReadOnlyRole

Show the outcome of every account, and the log of enroll:

  aws dynamodb scan --table-name rolecall-{stage}-ledger --query 'Items[].[account_id.S,outcome.S,reason.S]' --output text
  aws logs filter-log-events --log-group-name /aws/lambda/rolecall-{stage}-enroll --query 'events[].[message]' --output text

To act as root of another account, set AWS_ACCESS_KEY_ID to its id. Ctrl-C stops everything and deletes all files.
"""


def up(stage: str, reader: str) -> None:
    """Start the organization, deploy the app, print a guide, and run until SIGINT or SIGTERM."""
    with LocalOrganization() as organization:
        accounts = {organization.create_account(name): name for name in _ACCOUNTS}
        principal = organization.create_source_principal(reader)
        print("packaging and deploying ...", flush=True)
        environment = os.environ | {
            "AWS_ENDPOINT_URL": organization.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": organization.management_account_id,
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        command = [sys.executable, "-m", "rolecall", "deploy", stage, "--source-principal", principal, "--yes"]
        subprocess.run(command, cwd=_ROOT, env=environment, check=True)
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--stage", default="local")
    parser.add_argument("--reader", default="Reader", help="name of the source principal, a role that is created")
    arguments = parser.parse_args()
    try:
        up(arguments.stage, arguments.reader)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
