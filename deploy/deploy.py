"""Deploy a packaged stage, or upgrade it, or change its settings: the same command for all three.

Usage: python -m deploy.deploy STAGE BUCKET DIRECTORY, with PARAMS in the environment
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.aws import (
    Aws,
    CommandError,
    DeployError,
    Place,
    command_line,
    configured_region,
    delete_stack,
    item,
    place,
    stack,
    table_exists,
)
from deploy.intrinsics import resolve
from deploy.parameters import check_environment, known_values, parse, settle

_PUBLISH_SECONDS = 150
"""Longer than the timeout of publish (.chalice/config.json)."""


def deploy(stage: str, bucket: str, directory: Path, params: str, *, aws: Aws, region: str) -> str:
    """Check everything that can be checked beforehand, deploy, and tell what to do next."""
    template = yaml.safe_load((directory / "template.yaml").read_text())
    given = parse(params, template["Parameters"])
    here = place(aws, region)
    name = f"rolecall-{stage}"
    standing = stack(aws, name)
    if standing and standing["StackStatus"] in {"ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"}:
        # The shell of a first deployment that failed, which holds nothing and can only be deleted.
        delete_stack(aws, name)
        standing = None
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in (standing or {}).get("Parameters", [])}
    values = known_values(template, settle(template["Parameters"], given, kept), here)
    check_environment(template, values)
    _refuse_changed_names(values, aws)
    if standing is None:
        _take_up_tables(name, template, values, directory, aws)
    _update(name, bucket, directory, given, {"managed-by": "rolecall", "rolecall-stage": stage}, aws)
    return _next_steps(stage, here, values, _started_publish(stage, values, directory, aws))


def _refuse_changed_names(values: Mapping[str, str], aws: Aws) -> None:
    """Raise DeployError if a stage has published under other names: their role and policies would be orphaned."""
    table = values["SourcePolicyTable"]
    if not table_exists(aws, table):
        return
    recorded = item(aws, table, policy_name="#status").get("names", {})
    given = {
        "member_role_name": ("MemberRoleName", values["MemberRoleName"]),
        "source_policy_name": ("SourcePolicyName", values["SourcePolicyName"]),
        "source_account_id": ("the account of SourcePrincipalArns", values["SourcePrincipalArns"].split(":")[4]),
    }
    changed = [
        f"{parameter} is {value} and was {recorded[name]}"
        for name, (parameter, value) in given.items()
        if recorded.get(name, value) != value
    ]
    if changed:
        raise DeployError(
            f"a stage keeps its names: {'; '.join(changed)}. Set the earlier values, deploy another STAGE, or uninstall this one "
            "and delete its tables (docs/offboarding.md)"
        )


def _started_publish(stage: str, values: Mapping[str, str], directory: Path, aws: Aws) -> str:
    """Run publish once, which checks names, principals and room, and return a paragraph if new accounts can't be enrolled."""
    function, payload, answer = f"rolecall-{stage}-publish", directory / "publish.json", directory / "published.json"
    payload.write_text('{"Records": []}')
    invocation = ("lambda", "invoke", "--function-name", function, "--cli-read-timeout", str(_PUBLISH_SECONDS))
    try:
        ran = aws(*invocation, "--payload", f"fileb://{payload}", str(answer))
        failed = json.loads(answer.read_text()).get("errorMessage", "") if "FunctionError" in ran else None
    except CommandError as error:
        failed = str(error)
    if failed is not None:
        return f"{function} failed: {failed}\nSee the log group /aws/lambda/{function}.\n\n"
    blocked = item(aws, values["SourcePolicyTable"], policy_name="#status").get("blocked")
    if not blocked:
        return ""
    reason = " ".join(str(blocked[key]) for key in ("reason", "error") if blocked.get(key))
    return f"New accounts are not enrolled: {reason}\nSee docs/runbook.md#publishing-blocked.\n\n"


def _take_up_tables(
    name: str, template: Mapping[str, Any], values: Mapping[str, str], directory: Path, aws: Aws
) -> None:
    """Start the stack from the tables that an earlier stack left: CloudFormation would fail to create them again."""
    tables = {
        logical_id: resolve(resource, values)
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::Table" and table_exists(aws, values[logical_id])
    }
    if not tables:
        return
    only_tables = directory / "tables.json"
    only_tables.write_text(json.dumps({"Resources": tables}))
    imports = [
        {
            "ResourceType": "AWS::DynamoDB::Table",
            "LogicalResourceId": logical_id,
            "ResourceIdentifier": {"TableName": values[logical_id]},
        }
        for logical_id in tables
    ]
    change = ("--stack-name", name, "--change-set-name", "take-up-tables")
    aws(
        *("cloudformation", "create-change-set", *change, "--change-set-type", "IMPORT"),
        *("--resources-to-import", json.dumps(imports), "--template-body", only_tables.as_uri()),
    )
    aws("cloudformation", "wait", "change-set-create-complete", *change)
    aws("cloudformation", "execute-change-set", *change)
    aws("cloudformation", "wait", "stack-import-complete", "--stack-name", name)


def _update(
    name: str, bucket: str, directory: Path, given: Mapping[str, str], tags: Mapping[str, str], aws: Aws
) -> None:
    uploaded = str(directory / "uploaded.yaml")
    upload = ("--s3-bucket", bucket, "--s3-prefix", name)
    # Uploads under a key made of the content, so what did not change is not uploaded again.
    aws(
        *("cloudformation", "package", "--template-file", str(directory / "template.yaml"), *upload),
        *("--output-template-file", uploaded),
    )
    parameters = [f"{key}={value}" for key, value in given.items()]
    try:
        aws(
            *("cloudformation", "deploy", "--stack-name", name, "--template-file", uploaded, *upload),
            *("--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset"),
            *("--tags", *(f"{key}={value}" for key, value in tags.items())),
            *(("--parameter-overrides", *parameters) if parameters else ()),
        )
    except CommandError as error:
        raise DeployError("\n  ".join([str(error), *_failures(name, aws)])) from error


def _failures(name: str, aws: Aws) -> list[str]:
    """Name what failed in the stack's latest operation; events come newest first."""
    try:
        events = aws("cloudformation", "describe-stack-events", "--stack-name", name)["StackEvents"]
    except CommandError:
        return []
    failures = []
    for event in events:
        reason = event.get("ResourceStatusReason", "")
        if reason == "User Initiated":
            break
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            failures.append(f"{event['LogicalResourceId']}: {reason}")
    return failures[::-1]


def _next_steps(stage: str, here: Place, values: Mapping[str, str], warning: str) -> str:
    aws = f"aws --region {here.region}"
    return f"""\
Stage {stage} is deployed: stack rolecall-{stage} in {here.region} of account {here.account_id}.

{warning}1. Events reach it through CloudTrail alone. Confirm that one trail logs the write management events of {here.region}:
     {aws} cloudtrail describe-trails --query 'trailList[].[Name, HomeRegion, IsMultiRegionTrail]' --output table
2. Have the organization verified once; until then an alarm says that no resync did. To look first, add "dry_run": true.
     echo '{{"accounts": "all"}}' | {aws} lambda invoke --function-name rolecall-{stage}-resync --payload fileb:///dev/stdin /dev/stdout
3. Create a test account, or wait for the next one. It takes some minutes to be ready; until then it is tried again.
     {aws} organizations create-account --account-name rolecall-test --email YOUR-ADDRESS
4. See where each account stands, and why. The log group /aws/lambda/rolecall-{stage}-enroll has a line for each pass:
     {aws} dynamodb scan --table-name {values["LedgerTable"]} --output table
5. Subscribe to the topic rolecall-{stage}-alarms, or set AlarmEmail. docs/runbook.md says what each alarm means.

The same command with other PARAMS changes settings; those not named stay as they are."""


def main() -> None:
    """Deploy as the command line says."""
    stage, bucket, directory = sys.argv[1:]
    region = configured_region()
    try:
        print(
            deploy(
                *(stage, bucket, Path(directory).resolve(), os.environ.get("PARAMS", "")),
                aws=command_line(region),
                region=region,
            )
        )
    except DeployError as error:
        sys.exit(f"not deployed: {error}")


if __name__ == "__main__":
    main()
