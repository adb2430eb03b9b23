"""Deployment of the packaged app as a CloudFormation stack."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from local.waiting import wait_until

_BUCKET = "rolecall-artifacts"
_TIMEOUT_SECONDS = 60
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]


class DeploymentError(Exception):
    """The creation or update of a stack failed."""


def deploy_stack(
    s3: Any, cloudformation: Any, stack: str, package_dir: Path, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Upload the zip and the template, create or update the stack, and return its outputs.

    Raise DeploymentError with the failed resources if that fails.
    """
    template_url = _upload(s3, stack, package_dir)
    request = {
        "StackName": stack,
        "TemplateURL": template_url,
        "Capabilities": _CAPABILITIES,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }
    try:
        cloudformation.create_stack(**request)
    except cloudformation.exceptions.AlreadyExistsException:
        if not _is_updated(cloudformation, request):
            return _outputs(cloudformation, stack)
    status = wait_until(lambda: _final_status(cloudformation, stack), f"stack {stack} is complete", _TIMEOUT_SECONDS)
    if status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        raise DeploymentError(f"stack {stack} is {status}:\n" + "\n".join(_failures(cloudformation, stack)))
    return _outputs(cloudformation, stack)


def _upload(s3: Any, stack: str, package_dir: Path) -> str:
    """Upload the template and the code that it refers to, once each, and return the template's URL."""
    s3.create_bucket(Bucket=_BUCKET)
    # CSafeLoader is several times faster than safe_load.
    template = yaml.load((package_dir / "template.yaml").read_text(), yaml.CSafeLoader)
    uploaded: dict[str, str] = {}
    for resource in template["Resources"].values():
        code = resource.get("Properties", {}).get("CodeUri")
        if isinstance(code, str) and not code.startswith("s3://"):
            if code not in uploaded:
                key = f"{stack}/{Path(code).name}"
                s3.upload_file(str(package_dir / code), _BUCKET, key)
                uploaded[code] = f"s3://{_BUCKET}/{key}"
            resource["Properties"]["CodeUri"] = uploaded[code]
    s3.put_object(Bucket=_BUCKET, Key=f"{stack}/template.json", Body=json.dumps(template))
    return f"{s3.meta.endpoint_url}/{_BUCKET}/{stack}/template.json"


def _is_updated(cloudformation: Any, request: dict[str, Any]) -> bool:
    try:
        cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            return False
        raise
    return True


def _final_status(cloudformation: Any, stack: str) -> str | None:
    status = str(cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])
    return None if status.endswith("_IN_PROGRESS") else status


def _failures(cloudformation: Any, stack: str) -> list[str]:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}
