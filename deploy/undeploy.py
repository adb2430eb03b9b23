"""Delete a stage's stack, unless roles or policies are left that only the stage manages.

Usage: python -m deploy.undeploy STAGE
"""

import json
import sys
from collections.abc import Iterator

from chalicelib.accounts import UNREACHABLE
from deploy.aws import Aws, DeployError, command_line, configured_region, delete_stack, place, stack, table_exists

_SHOWN = 20


def undeploy(stage: str, *, aws: Aws, region: str) -> str:
    """Delete the stack, and return what is kept. Raises DeployError if anything is enrolled or a policy is left."""
    place(aws, region)
    name = f"rolecall-{stage}"
    ledger, source_policy = f"{name}-ledger", f"{name}-source-policy"
    left = [
        *(_roles(ledger, aws) if table_exists(aws, ledger) else ()),
        *(_policies(source_policy, aws) if table_exists(aws, source_policy) else ()),
    ]
    if left:
        more = [f"and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else []
        listed = "\n  ".join(left[:_SHOWN] + more)
        raise DeployError(
            f"enrolled accounts, roles and policies that are left: {len(left)}\n  {listed}\n"
            f"Uninstall the stage first (docs/offboarding.md, Uninstall), by the function {name}-retire."
        )
    if stack(aws, name) is None:
        raise DeployError(f"there is no stack {name} in {region}")
    delete_stack(aws, name)
    return f"""\
Stack {name} is deleted. Its records are kept in two tables, which the next `make deploy STAGE={stage}` uses again:
  {ledger}, {source_policy}
To delete them:
  aws --region {region} dynamodb delete-table --table-name {ledger}
  aws --region {region} dynamodb delete-table --table-name {source_policy}"""


def _scanned(table: str, aws: Aws, *attributes: str) -> Iterator[dict[str, str]]:
    """Yield some attributes of a table's items as strings; one that is absent is empty."""
    names = {f"#{index}": attribute for index, attribute in enumerate(attributes)}
    answer = aws(
        *("dynamodb", "scan", "--consistent-read", "--table-name", table, "--projection-expression", ", ".join(names)),
        *("--expression-attribute-names", json.dumps(names)),
    )
    for each in answer["Items"]:
        yield {attribute: each.get(attribute, {}).get("S", "") for attribute in attributes}


def _roles(ledger: str, aws: Aws) -> list[str]:
    """List the accounts that are enrolled, and those with a role that can still be deleted."""
    return sorted(
        f"{row['account_id']} {row['outcome']} {row['role_arn']}".rstrip()
        for row in _scanned(ledger, aws, "account_id", "outcome", "role_arn", "reason")
        if row["outcome"] == "enrolled" or (row["role_arn"] and row["reason"] not in UNREACHABLE)
    )


def _policies(source_policy: str, aws: Aws) -> list[str]:
    """List the shards of the source policy; the keys of all other items begin with a hash."""
    names = sorted(row["policy_name"] for row in _scanned(source_policy, aws, "policy_name"))
    return [f"policy {name}" for name in names if not name.startswith("#")]


def main() -> None:
    """Undeploy as the command line says."""
    region = configured_region()
    try:
        print(undeploy(sys.argv[1], aws=command_line(region), region=region))
    except DeployError as error:
        sys.exit(f"not undeployed: {error}")


if __name__ == "__main__":
    main()
