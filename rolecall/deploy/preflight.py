"""Everything that can be known before a deployment: its parameters, its location, its stack, and all that is wrong with them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.arns import AccountId, root_arn
from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.deploy.artifacts import Artifacts
from rolecall.deploy.location import Location, check_location, read_location
from rolecall.deploy.member_role_policies import PARAMETER, check_actions, read_policy_files
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.parameters import (
    contradictions,
    known_names,
    known_values,
    merge_given,
    merge_parameters,
    read_file,
    set_elsewhere,
    split_pairs,
    wrong_values,
)
from rolecall.deploy.preconditions import check_preconditions
from rolecall.deploy.problems import Problems, RefusedError
from rolecall.deploy.role_changes import RoleChanges, read_role_changes
from rolecall.deploy.stack import Stack, describe_stack, resource_names, stack_name
from rolecall.deploy.stack_status import Step, check_owner, check_status, next_step
from rolecall.deploy.tables import Tables, existing_tables

_ANY_STAGE = "dev"  # in place of an invalid name, so that everything else is checked, too
_STAGE = re.compile(r"[a-z][a-z0-9-]{0,19}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the operator gave: a bucket, and parameters.

    Parameters are options, `Name=value`, a shell-quoted text, and in a file. `policies` are files of inline policies,
    which may write if `allow_writes`.
    """

    stage: str
    options: Mapping[str, str]
    pairs: tuple[str, ...] = ()
    text: str = ""
    file: Path | None = None
    policies: tuple[str, ...] = ()
    allow_writes: bool = False
    bucket: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A deployment that was checked: where, with which parameters, on which stack, and from which bucket.

    `values` are those that the template's references have, and `kept` are the parameters of the stack as it is.
    """

    stage: str
    location: Location
    given: Mapping[str, str]
    kept: Mapping[str, str]
    values: Mapping[str, Any]
    stack: Stack | None
    step: Step
    tables: Mapping[str, str]
    artifacts: Artifacts
    warnings: tuple[str, ...]
    roles: RoleChanges | None
    unchecked: tuple[str, ...]

    @property
    def stack_name(self) -> str:
        """The name of the stage's stack."""
        return stack_name(self.stage)


def check_stage_name(stage: str, problems: Problems) -> None:
    """Add a problem for an invalid name of a stage."""
    if not _STAGE.fullmatch(stage):
        problems.add(
            f"{stage!r} is no name of a stage", "choose 1 to 20 lower-case letters, digits and hyphens, a letter first"
        )


def check_deployment(given: Given, app: PackagedApp, client: ClientFactory, region: str) -> Plan:
    """Return the deployment, or raise RefusedError with everything that is wrong with it. Changes nothing."""
    problems, declared = Problems(), app.template["Parameters"]
    check_stage_name(given.stage, problems)
    is_named = not problems.found
    parameters = _given_parameters(given, declared, problems)
    refused = f"stage {given.stage} can't be deployed, and nothing was changed:"
    location, stack, step = _locate(given.stage if is_named else None, client, region, problems)
    if location is None:  # With these credentials, nothing more can be known.
        wrong = wrong_values({name: declared[name] for name in parameters}, parameters)
        raise RefusedError(refused, [*problems.found, *wrong.values()])
    kept = dict(stack.parameters) if stack is not None else {}
    stage = given.stage if is_named else _ANY_STAGE
    with problems.collect():
        parameters |= _access_role_targets(merge_parameters(declared, parameters, kept), client)
    values, wrong = _known_values(app.template, parameters | {"Stage": stage}, kept, location)
    problems.found[:0] = [*wrong.values(), *contradictions(app.template, values)]
    check_actions(values, kept, problems, allow_writes=given.allow_writes)
    artifacts, tables = Artifacts.connect(client, location, given.bucket), Tables(client("dynamodb"))
    if is_named:
        check_preconditions(values, kept, location, client, problems, wrong=wrong)
    artifacts.check(problems)
    if problems.found:
        raise RefusedError(refused, problems.found, problems.unchecked)
    roles: RoleChanges | None = None
    with problems.attempt("in how many accounts the member role will change"):
        roles = read_role_changes(app.template, values, kept, location, tables)
    return Plan(
        stage=given.stage,
        location=location,
        given=parameters,
        kept=kept,
        values=values,
        stack=stack,
        step=step,
        tables=existing_tables(app.template, values, tables) if step in {Step.CREATE, Step.REPLACE} else {},
        artifacts=artifacts,
        warnings=tuple(problems.warnings),
        roles=roles,
        unchecked=tuple(problems.unchecked),
    )


def _locate(
    stage: str | None, client: ClientFactory, region: str, problems: Problems
) -> tuple[Location | None, Stack | None, Step]:
    """Return where and on which stack the stage is deployed, and what is done first; no location for the wrong credentials."""
    with problems.collect():
        location = read_location(client, region)
        if not check_location(client, location, problems):
            return None, None, Step.CREATE
        stack, step = _stack(stage, client, problems) if stage else (None, Step.CREATE)
        if stage is None or len(problems.denied) < 2:  # noqa: PLR2004 - the organization and the stack
            return location, stack, step
        problems.found = [each for each in problems.found if each not in problems.denied]
        problems.add(
            f"{location.caller_arn} may read neither the organization nor stack {stack_name(stage)}, as is usual for a source principal",
            "use credentials of the management account with the permissions of docs/deploy.md#permissions-of-the-deployer",
        )
    return None, None, Step.CREATE


def _stack(stage: str, client: ClientFactory, problems: Problems) -> tuple[Stack | None, Step]:
    """Return the stack, if it exists, and what is done first."""
    cloudformation = client("cloudformation")
    with problems.collect():
        stack = describe_stack(cloudformation, stack_name(stage))
        if stack is None:
            return None, Step.CREATE
        resources, before = resource_names(cloudformation, stack), len(problems.found)
        check_owner(stack, resources, problems)
        if len(problems.found) == before:
            check_status(stack, problems)
        return stack, next_step(stack, has_resources=bool(resources))
    return None, Step.CREATE


def _given_parameters(given: Given, declared: Mapping[str, Any], problems: Problems) -> dict[str, str]:
    file = read_file(given.file, problems) if given.file else {}
    documents = read_policy_files(given.policies, problems)
    options = {**given.options, **({PARAMETER: documents} if documents is not None else {})}
    merged = merge_given(options, (*given.pairs, *split_pairs(given.text, problems)), file, problems)
    set_elsewhere(os.environ, declared, problems)
    return known_names(merged, declared, problems)


def _access_role_targets(values: Mapping[str, str], client: ClientFactory) -> dict[str, str]:
    """Return the targets of the StackSet if none are set: the included units, or the organization's root."""
    if values["AccessRoleStackSet"] != "true" or values["AccessRoleTargets"]:
        return {}
    with translate_errors("listing the organization's root"):
        targets = values["IncludeOuIds"] or client("organizations").list_roots()["Roots"][0]["Id"]
    return {"AccessRoleTargets": targets}


def _known_values(
    template: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str], location: Location
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that are known before the deployment, and the parameters that are wrong, with a substitute among them."""
    declared = template["Parameters"]
    values = merge_parameters(declared, given, kept)
    wrong = wrong_values(declared, values)
    # In place of what is missing or invalid, so that everything else is checked, too.
    valid = {"SourcePrincipalArns": root_arn(location.partition, AccountId(location.account_id))}
    valid |= merge_parameters(declared, {}, {})
    values |= {name: valid[name] for name in wrong}
    return known_values(template, values, location), wrong
