"""Delete a stage's stack, unless that would leave roles with nobody to look after them.

Usage: python -m deploy.undeploy STAGE
"""

import sys
from typing import Any

from chalicelib.accounts import OUT_OF_REACH
from deploy.aws import Aws, DeployError, command_line, configured_region, delete_stack, place, stack, table_exists

_SHOWN = 20


def undeploy(stage: str, *, aws: Aws, region: str) -> str:
    """Delete the stack and tell what is kept."""
    place(aws, region)
    name = f"rolecall-{stage}"
    ledger = f"{name}-ledger"
    if table_exists(aws, ledger):
        _refuse_while_in_use(ledger, aws)
    if stack(aws, name) is None:
        raise DeployError(f"there is no stack {name} in {region}")
    delete_stack(aws, name)
    return f"""\
Stack {name} is deleted. What it knew is kept in two tables, which the next `make deploy STAGE={stage}` takes up again:
  {ledger}, {name}-source-policy
To forget it for good:
  aws --region {region} dynamodb delete-table --table-name {ledger}
  aws --region {region} dynamodb delete-table --table-name {name}-source-policy
A source policy that was not uninstalled stays where it is attached and names no account; detach and delete it by hand."""


def _refuse_while_in_use(ledger: str, aws: Aws) -> None:
    answer = aws(
        *("dynamodb", "scan", "--consistent-read", "--table-name", ledger),
        *("--projection-expression", "#id, #outcome, #role, #reason", "--expression-attribute-names"),
        '{"#id": "account_id", "#outcome": "outcome", "#role": "role_arn", "#reason": "reason"}',
    )
    in_use = sorted(filter(None, map(_use, answer["Items"])))
    if in_use:
        more = [f"and {len(in_use) - _SHOWN} more"] if len(in_use) > _SHOWN else []
        listed = "\n  ".join(in_use[:_SHOWN] + more)
        raise DeployError(
            f"accounts that are enrolled, or have a role left: {len(in_use)}\n  {listed}\n"
            f"First have all of it taken away (docs/offboarding.md, Uninstall), by the function {ledger.removesuffix('ledger')}retire."
        )


def _use(item: dict[str, Any]) -> str | None:
    """Tell what an account's row says is still there, if anything."""
    told = {key: item.get(key, {}).get("S", "") for key in ("account_id", "outcome", "role_arn", "reason")}
    left = told["role_arn"] and told["reason"] not in OUT_OF_REACH
    return (
        f"{told['account_id']} {told['outcome']} {told['role_arn']}".rstrip()
        if told["outcome"] == "enrolled" or left
        else None
    )


def main() -> None:
    """Undeploy as the command line says."""
    region = configured_region()
    try:
        print(undeploy(sys.argv[1], aws=command_line(region), region=region))
    except DeployError as error:
        sys.exit(f"not undeployed: {error}")


if __name__ == "__main__":
    main()
