"""Deploy or upgrade a packaged stage, or change its settings.

Usage: python -m deploy.deploy STAGE BUCKET DIRECTORY, with PARAMS in the environment
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from chalicelib.arns import root_arn
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
from deploy.parameters import (
    contradictions,
    known_values,
    merge_parameters,
    parse_parameters,
    set_elsewhere,
    wrong_values,
)
from deploy.preconditions import UNINSTALLED, find_problems
from rolecall.partitions import add_account_arguments

_PUBLISH_SECONDS = 150
"""How long to wait for publish; longer than its timeout (.chalice/config.json)."""


def deploy(stage: str, bucket: str, directory: Path, variables: Mapping[str, str], *, aws: Aws, region: str) -> str:
    """Check the parameters and the location, deploy, run publish once, and return the next steps.

    `variables` are the environment's, with PARAMS among them. Raise DeployError with everything that can't work.
    """
    template = yaml.safe_load((directory / "template.yaml").read_text())
    declared = template["Parameters"]
    given, problems = parse_parameters(variables.get("PARAMS", ""), declared)
    problems += set_elsewhere(variables, declared)
    try:
        location = check_location(aws, region)
    except DeployError as error:
        raise _refused(
            [*problems, *wrong_values({name: declared[name] for name in given}, given).values(), str(error)]
        ) from error
    name = f"rolecall-{stage}"
    stack = describe_stack(aws, name)
    is_empty = stack is not None and stack["StackStatus"] in UNINSTALLED
    kept = {
        each["ParameterKey"]: each["ParameterValue"] for each in (stack or {}).get("Parameters", []) if not is_empty
    }
    values, wrong = _known_values(template, given, kept, location)
    found, unchecked = find_problems(values, location, aws, wrong=wrong)
    problems += [*wrong.values(), *contradictions(template, values), *found]
    if problems:
        raise _refused(problems, unchecked)
    if is_empty:
        delete_stack(aws, name)
    if stack is None or is_empty:
        _import_tables(name, template, values, directory, aws)
    _update(name, bucket, directory, given, {"managed-by": "rolecall", "rolecall-stage": stage}, aws)
    warnings = [*map(_not_checked, unchecked), *_run_publish(stage, values, directory, aws)]
    return _next_steps(stage, location, values, warnings)


def _known_values(
    template: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str], location: Location
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that are known before the deployment, and the parameters that are wrong, with a substitute among them."""
    declared = template["Parameters"]
    values = merge_parameters(declared, given, kept)
    wrong = wrong_values(declared, values)
    # In place of what is missing or invalid, so that everything else is checked, too.
    valid = {"SourcePrincipalArns": root_arn(location.partition, location.account_id)}
    valid |= merge_parameters(declared, {}, {})
    values |= {name: valid[name] for name in wrong}
    return known_values(template, values, location), wrong


def _refused(problems: Sequence[str], unchecked: Sequence[str] = ()) -> DeployError:
    return DeployError("\n  ".join(["nothing was changed:", *problems, *map(_not_checked, unchecked)]))


def _not_checked(what: str) -> str:
    return f"not checked: {what}"


def _run_publish(stage: str, values: Mapping[str, str], directory: Path, aws: Aws) -> list[str]:
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
        return [f"{function} failed: {error}\nSee the log group /aws/lambda/{function}."]
    blocked = get_item(aws, values["SourcePolicyTable"], policy_name="#status").get("blocked")
    if not blocked:
        return []
    reason = " ".join(str(blocked[key]) for key in ("reason", "error") if blocked.get(key))
    return [f"New accounts are not enrolled: {reason}\nSee docs/runbook.md#publishing-blocked."]


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


def _next_steps(stage: str, location: Location, values: Mapping[str, str], warnings: Sequence[str]) -> str:
    aws, warning = f"aws --region {location.region}", "".join(f"{each}\n\n" for each in warnings)
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
                *(stage, bucket, Path(directory).resolve(), os.environ),
                aws=aws_cli(region),
                region=region,
            )
        )
    except DeployError as error:
        sys.exit(f"deploy failed: {error}")


if __name__ == "__main__":
    main()
