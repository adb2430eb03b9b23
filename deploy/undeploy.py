"""Delete a stage's stack, unless roles or policies are left that only this stage manages.

Usage: python -m deploy.undeploy STAGE
"""

import json
import sys
from collections.abc import Iterator

from chalicelib.accounts import UNREACHABLE
from deploy.aws import (
    Aws,
    DeployError,
    aws_cli,
    check_location,
    configured_region,
    delete_stack,
    describe_stack,
    table_exists,
)

_MAX_LISTED = 20


def undeploy(stage: str, *, aws: Aws, region: str) -> str:
    """Delete the stack, and return a message about the kept tables. Raise DeployError if an account, role or policy is left."""
    check_location(aws, region)
    name = f"rolecall-{stage}"
    ledger, source_policy = f"{name}-ledger", f"{name}-source-policy"
    left = [
        *(_roles(ledger, aws) if table_exists(aws, ledger) else ()),
        *(_policies(source_policy, aws) if table_exists(aws, source_policy) else ()),
    ]
    if left:
        more = [f"and {len(left) - _MAX_LISTED} more"] if len(left) > _MAX_LISTED else []
        listed = "\n  ".join(left[:_MAX_LISTED] + more)
        raise DeployError(
            f"{len(left)} enrolled accounts, roles and policies are left:\n  {listed}\n"
            f"Uninstall the stage first: rolecall --stage {stage} uninstall (docs/offboarding.md)"
        )
    if describe_stack(aws, name) is None:
        raise DeployError(f"stack {name} does not exist in {region}")
    delete_stack(aws, name)
    return f"""\
Stack {name} is deleted. Two tables are kept, which the next `make deploy STAGE={stage}` imports:
  {ledger}, {source_policy}
To delete them:
  aws --region {region} dynamodb delete-table --table-name {ledger}
  aws --region {region} dynamodb delete-table --table-name {source_policy}"""


def _scanned(table: str, aws: Aws, *attributes: str) -> Iterator[dict[str, str]]:
    """Yield some attributes of a table's items as strings; an absent attribute is empty."""
    names = {f"#{index}": attribute for index, attribute in enumerate(attributes)}
    response = aws(
        *("dynamodb", "scan", "--consistent-read", "--table-name", table, "--projection-expression", ", ".join(names)),
        *("--expression-attribute-names", json.dumps(names)),
    )
    for each in response["Items"]:
        yield {attribute: each.get(attribute, {}).get("S", "") for attribute in attributes}


def _roles(ledger: str, aws: Aws) -> list[str]:
    """Return the accounts that are enrolled, and those with a role that can still be deleted."""
    return sorted(
        f"{row['account_id']} {row['outcome']} {row['role_arn']}".rstrip()
        for row in _scanned(ledger, aws, "account_id", "outcome", "role_arn", "reason")
        if row["outcome"] == "enrolled" or (row["role_arn"] and row["reason"] not in UNREACHABLE)
    )


def _policies(source_policy: str, aws: Aws) -> list[str]:
    """Return the shards of the source policy; the keys of all other items begin with a hash."""
    names = sorted(row["policy_name"] for row in _scanned(source_policy, aws, "policy_name"))
    return [f"policy {name}" for name in names if not name.startswith("#")]


def main() -> None:
    """Undeploy the stage of the command line."""
    region = configured_region()
    try:
        print(undeploy(sys.argv[1], aws=aws_cli(region), region=region))
    except DeployError as error:
        sys.exit(f"undeploy refused: {error}")


if __name__ == "__main__":
    main()
