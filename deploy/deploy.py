"""Deploy or upgrade a packaged stage, or change its settings.

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
    AwsCommandError,
    DeployError,
    Location,
    aws_cli,
    check_location,
    configured_region,
    delete_stack,
    describe_stack,
    get_item,
    table_exists,
)
from deploy.intrinsics import resolve
from deploy.parameters import check_environment, known_values, merge_parameters, parse_parameters
from rolecall.partitions import add_account_arguments

_PUBLISH_SECONDS = 150
"""How long to wait for publish; longer than its timeout (.chalice/config.json)."""


def deploy(stage: str, bucket: str, directory: Path, params: str, *, aws: Aws, region: str) -> str:
    """Check the parameters and the location, deploy, run publish once, and return the next steps."""
    template = yaml.safe_load((directory / "template.yaml").read_text())
    given = parse_parameters(params, template["Parameters"])
    location = check_location(aws, region)
    name = f"rolecall-{stage}"
    stack = describe_stack(aws, name)
    if stack and stack["StackStatus"] in {"ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"}:
        # The empty stack of a failed first deployment, which can only be deleted.
        delete_stack(aws, name)
        stack = None
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in (stack or {}).get("Parameters", [])}
    values = known_values(template, merge_parameters(template["Parameters"], given, kept), location)
    check_environment(template, values)
    _check_names(values, aws)
    if stack is None:
        _import_tables(name, template, values, directory, aws)
    _update(name, bucket, directory, given, {"managed-by": "rolecall", "rolecall-stage": stage}, aws)
    return _next_steps(stage, location, values, _run_publish(stage, values, directory, aws))


def _check_names(values: Mapping[str, str], aws: Aws) -> None:
    """Raise DeployError if the stage has published with other names, whose roles and policies would be orphaned."""
    table = values["SourcePolicyTable"]
    if not table_exists(aws, table):
        return
    recorded = get_item(aws, table, policy_name="#status").get("names", {})
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
            f"the names of a stage can't be changed: {'; '.join(changed)}. Restore these values, deploy another STAGE, or "
            "uninstall this one and delete its tables (docs/offboarding.md)"
        )


def _run_publish(stage: str, values: Mapping[str, str], directory: Path, aws: Aws) -> str:
    """Run publish once, which checks names, principals and room. Return a warning if new accounts can't be enrolled, or nothing."""
    function, payload, response = f"rolecall-{stage}-publish", directory / "publish.json", directory / "published.json"
    payload.write_text('{"Records": []}')
    invocation = ("lambda", "invoke", "--function-name", function, "--cli-read-timeout", str(_PUBLISH_SECONDS))
    try:
        invoked = aws(*invocation, "--payload", f"fileb://{payload}", str(response))
        error = json.loads(response.read_text()).get("errorMessage", "") if "FunctionError" in invoked else None
    except AwsCommandError as failure:
        error = str(failure)
    if error is not None:
        return f"{function} failed: {error}\nSee the log group /aws/lambda/{function}.\n\n"
    blocked = get_item(aws, values["SourcePolicyTable"], policy_name="#status").get("blocked")
    if not blocked:
        return ""
    reason = " ".join(str(blocked[key]) for key in ("reason", "error") if blocked.get(key))
    return f"New accounts are not enrolled: {reason}\nSee docs/runbook.md#publishing-blocked.\n\n"


def _import_tables(
    name: str, template: Mapping[str, Any], values: Mapping[str, str], directory: Path, aws: Aws
) -> None:
    """Create the stack by importing the tables that an earlier stack left, which CloudFormation can't create again."""
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
    change = ("--stack-name", name, "--change-set-name", "import-tables")
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
    # The key is a hash of the content, so that unchanged content is not uploaded again.
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
    except AwsCommandError as error:
        raise DeployError("\n  ".join([str(error), *_failed_resources(name, aws)])) from error


def _failed_resources(name: str, aws: Aws) -> list[str]:
    """Return the resources that failed in the stack's latest operation, with the reasons."""
    try:
        events = aws("cloudformation", "describe-stack-events", "--stack-name", name)["StackEvents"]
    except AwsCommandError:
        return []
    failures = []
    for event in events:  # the newest first
        reason = event.get("ResourceStatusReason", "")
        if reason == "User Initiated":
            break
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            failures.append(f"{event['LogicalResourceId']}: {reason}")
    return failures[::-1]


def _next_steps(stage: str, location: Location, values: Mapping[str, str], warning: str) -> str:
    aws = f"aws --region {location.region}"
    return f"""\
Stage {stage} is deployed: stack rolecall-{stage} in {location.region} of account {location.account_id}.

{warning}1. Events are delivered through CloudTrail. Confirm that a trail logs the write management events of {location.region}:
     {aws} cloudtrail describe-trails --query 'trailList[].[Name, HomeRegion, IsMultiRegionTrail]' --output table
   If there is none, create one:
     {aws} cloudformation deploy --stack-name management-events --template-file docs/trail.yaml
2. Run the first resync; until then, an alarm reports that none has run. For a preview, add "dry_run": true.
     echo '{{"accounts": "all"}}' | {aws} lambda invoke --function-name rolecall-{stage}-resync --cli-read-timeout 0 --payload fileb:///dev/stdin /dev/stdout
3. Add a test account. It is retried until it is ready, which takes some minutes.
     {aws} {add_account_arguments(location.partition, "rolecall-test", "YOUR-ADDRESS")}
   An invited account needs an access role: docs/access-roles.md.
4. List the status of each account. The log group /aws/lambda/rolecall-{stage}-enroll has a line for each pass:
     {aws} dynamodb scan --table-name {values["LedgerTable"]} --output table
5. Subscribe to the topic rolecall-{stage}-alarms, or set AlarmEmail. docs/runbook.md describes each alarm.

To change settings, run the same command with other PARAMS; all others keep their values."""


def main() -> None:
    """Deploy the stage of the command line."""
    stage, bucket, directory = sys.argv[1:]
    region = configured_region()
    try:
        print(
            deploy(
                *(stage, bucket, Path(directory).resolve(), os.environ.get("PARAMS", "")),
                aws=aws_cli(region),
                region=region,
            )
        )
    except DeployError as error:
        sys.exit(f"deploy failed: {error}")


if __name__ == "__main__":
    main()
