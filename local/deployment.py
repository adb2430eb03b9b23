"""Deployment of a package as a CloudFormation stack, without the checks of `rolecall deploy`: tests also deploy what those refuse."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rolecall.deploy.artifacts import Artifacts
from rolecall.deploy.change_set import ChangeRequest
from rolecall.deploy.location import Location
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.stack import describe_stack, stack_name
from rolecall.deploy.stack_operations import StackOperations

_BUCKET = "rolecall-artifacts"
_PAUSE_SECONDS = 0.1


def deploy_stack(
    s3: Any, cloudformation: Any, location: Location, stage: str, package_dir: Path, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Upload the zip and the template, create or update the stack of a stage, and return its outputs.

    Raise FailedError with the failed resources if that fails.
    """
    s3.create_bucket(Bucket=_BUCKET)
    stacks = StackOperations(
        cloudformation=cloudformation, display=lambda _: None, pause=lambda _: time.sleep(_PAUSE_SECONDS)
    )
    app, stack = PackagedApp(package_dir), stack_name(stage)
    own = {"Stage": stage} if "Stage" in app.template.get("Parameters", {}) else {}
    stacks.apply(
        ChangeRequest(
            stack_name=stack,
            kind="CREATE" if describe_stack(cloudformation, stack) is None else "UPDATE",
            template_url=Artifacts(s3, location, _BUCKET).upload(app),
            parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in {**own, **parameters}.items()],
        )
    )
    return dict(stacks.describe(stack).outputs)
