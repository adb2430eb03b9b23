"""Checks of the settings against AWS before a deployment: settings that can't work are found before anything is changed."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from botocore.exceptions import ClientError

from chalicelib.arns import Principal, parse_principal, role_arn
from chalicelib.aws.source_principals import DEFAULT_ATTACHMENTS, attachment_quota
from chalicelib.member_role import why_external_id, why_taken
from chalicelib.settings import Scope, parameters_with_role, stack_set_role_name
from chalicelib.source_policy.records import MAX_SHARDS, shard_name
from rolecall.access_role_stack_set import ACTIVATE, stack_set_exists, trusted_access
from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.deploy.boundary_and_key import denying_key_policy, missing_boundary, unusable_key
from rolecall.deploy.location import Location
from rolecall.deploy.problems import Problems
from rolecall.deploy.stack_status import NEVER_CREATED
from rolecall.deploy.tables import Tables
from rolecall.errors import CommandError
from rolecall.principals import principal_arns

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_organizations import OrganizationsClient

_READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["iam:GetRole", "iam:GetUser", "iam:ListRoles"], "Resource": "*"}],
}
"""The session policy in the source account."""

SESSION_NAME = "rolecall-deploy"
"""The name of the session in the source account, by which CloudTrail shows it."""

_UNINSTALL_FIRST = "keep the scope, deploy another STAGE, or uninstall this one first (docs/offboarding.md)"
_RESTORE = "restore it, deploy another STAGE, or uninstall this one first (docs/offboarding.md)"

_Problem: TypeAlias = tuple[str, str]
"""A parameter, and why it can't work and what to do."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of a stage in IAM, as its parameters set them."""

    stage: str
    member_role: str
    source_policy: str
    principals: tuple[Principal, ...]
    keeps_source_policy: bool
    access_roles: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "_Names":
        return cls(
            stage=values["Stage"],
            member_role=values["MemberRoleName"],
            source_policy=values["SourcePolicyName"],
            principals=tuple(_principals(values)),
            keeps_source_policy=_keeps_source_policy(values),
            access_roles=_access_roles(values),
        )

    @property
    def shards(self) -> set[str]:
        """The names of the policies that the source policy may consist of, without their case."""
        return {shard_name(self.source_policy, index).lower() for index in range(MAX_SHARDS)}

    @property
    def source_account_id(self) -> str | None:
        """The account of the source policy, or None without one."""
        return self.principals[0].account_id if self.principals and self.keeps_source_policy else None

    def parameters_with(self, role: str) -> list[str]:
        """Return the parameters that contain a role of this name."""
        return list(parameters_with_role(role, self.principals, self.access_roles))


def check_preconditions(
    values: Mapping[str, Any],
    kept: Mapping[str, str],
    location: Location,
    client: ClientFactory,
    problems: Problems,
    *,
    wrong: Collection[str] = (),
) -> None:
    """Add a problem for each parameter that can't work in this account, and what AWS refused to show.

    `kept` are the parameters of the stack as it is. `wrong` are parameters whose value is a substitute, so that nothing
    is reported about them.
    """

    def add(found: Iterator[_Problem]) -> None:
        problems.found += [f"{parameter} {why}" for parameter, why in found if parameter not in wrong]

    add(_taken_name(values))
    # Under other names, the installed roles and policies would be orphaned.
    with problems.collect():
        add(_changed_names(values, Tables(client("dynamodb"))))
    outside: set[str] = set()
    with problems.attempt("whether the source principals' accounts are in the organization"):
        outside = _outside_accounts(values, location, client)
        add(_missing_external_id(values, outside))
        add(_unwritable(values, outside))
    problems.unchecked += [
        f"whether the source principals of account {each}, outside of the organization, exist"
        for each in sorted(outside)
    ]
    with problems.attempt("whether the source principals exist"):
        missing = _missing_principals(values, location, client, outside)
        if values["AttachSourcePolicy"] == "true" or not _keeps_source_policy(values):
            add(missing)
        else:  # They may name the source policy, as a permission set does, and so can't exist before the first deployment.
            problems.unchecked += [f"{parameter} {why}" for parameter, why in missing]
    with problems.attempt("whether the organizational units exist"):
        add(_missing_units(values, client))
    if values["AccessRoleStackSet"] == "true":
        with problems.attempt("the trusted access of StackSets"):
            add(_missing_access(client))
        with problems.attempt("the names of other StackSets"):
            add(_taken_stack_set(values, kept, client))
        with problems.attempt("the targets of the StackSet"):
            add(_missing_targets(values, location, client))
    with problems.attempt("whether the event bus exists"):
        add(_missing_bus(values, client))
    with problems.attempt("the quota of policies attached to a role"):
        add(_too_many_policies(values, location, client))
    with problems.attempt("the names of other stages"):
        add(_names_in_use(values, client))
    with problems.attempt("whether the functions' permissions boundary exists"):
        add(missing_boundary(values, location, client))
    with problems.attempt("whether the key can be used"):
        add(unusable_key(values, location, client))
    with problems.attempt("the key's policy"):
        add(denying_key_policy(values, location, client))


def _access_roles(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the access roles in the order that they are tried."""
    own = [stack_set_role_name(values["Stage"])] if values["AccessRoleStackSet"] == "true" else []
    return (*own, *filter(None, values["AccessRoleNames"].split(",")))


def _missing_access(client: ClientFactory) -> Iterator[_Problem]:
    state = trusted_access(client("cloudformation"))
    if state != "ENABLED":
        yield "AccessRoleStackSet", f"is true, and the trusted access of StackSets is {state}: activate it: {ACTIVATE}"


def _taken_stack_set(values: Mapping[str, str], kept: Mapping[str, str], client: ClientFactory) -> Iterator[_Problem]:
    """Yield that a StackSet of the name exists, which isn't in the stack."""
    name = stack_set_role_name(values["Stage"])
    if kept.get("AccessRoleStackSet") != "true" and stack_set_exists(client("cloudformation"), name):
        yield "AccessRoleStackSet", f"is true, and another StackSet {name} exists: delete it, with its instances"


def _missing_targets(values: Mapping[str, str], location: Location, client: ClientFactory) -> Iterator[_Problem]:
    """Yield what is to be entered and is below none of the StackSet's targets, if there is no other access role."""
    targets, organizations = set(values["AccessRoleTargets"].split(",")), client("organizations")
    if values["AccessRoleNames"] or any(target.startswith("r-") for target in targets):
        return
    source, units = values["SourcePrincipalArns"].split(":")[4], values["IncludeOuIds"]
    entered = {unit: f"{unit} of IncludeOuIds" for unit in filter(None, units.split(","))}
    if source != location.account_id and _keeps_source_policy(values):
        entered[source] = f"the source account {source}"
    missing = [] if units else ["the organization's root, and IncludeOuIds is empty"]
    missing += [text for each, text in entered.items() if targets.isdisjoint(_levels_above(organizations, each))]
    for each in missing:
        yield "AccessRoleTargets", f"does not contain {each}: add it, since there is no other access role"


def _levels_above(organizations: "OrganizationsClient", child: str) -> Iterator[str]:
    """Yield an account or organizational unit, and the units above it."""
    while not child.startswith("r-"):
        yield child
        with translate_errors(f"listing the parents of {child}"):
            child = organizations.list_parents(ChildId=child)["Parents"][0]["Id"]


def _keeps_source_policy(values: Mapping[str, str]) -> bool:
    return values.get("SourcePolicyScope") != Scope.NONE


def _taken_name(values: Mapping[str, str]) -> Iterator[_Problem]:
    """Yield where the member role's name is also a source principal or an access role, which must never be changed."""
    ours = _Names.of(values)
    for parameter in ours.parameters_with(ours.member_role):
        yield "MemberRoleName", why_taken(ours.member_role, parameter)


def _changed_names(values: Mapping[str, Any], tables: Tables) -> Iterator[_Problem]:
    """Yield the names that differ from those that the stage has published with."""
    table = values["SourcePolicyTable"]
    recorded = tables.item(table, policy_name="#status").get("names", {}) if tables.exists(table) else {}
    if not _keeps_source_policy(values):
        if account_id := recorded.get("source_account_id"):
            why = (
                f"is none, and the source policy {recorded['source_policy_name']} is installed in account {account_id}"
            )
            yield "SourcePolicyScope", f"{why}, which no function could change any more: {_UNINSTALL_FIRST}"
        recorded = {name: value for name, value in recorded.items() if name == "member_role_name"}
    for name, parameter, value in (
        ("member_role_name", "MemberRoleName", values["MemberRoleName"]),
        ("source_policy_name", "SourcePolicyName", values["SourcePolicyName"]),
        ("source_account_id", "SourcePrincipalArns", values["SourcePrincipalArns"].split(":")[4]),
    ):
        if recorded.get(name, value) != value:
            of = "of account " if parameter == "SourcePrincipalArns" else ""
            why = f"is {of}{value} and was {of}{recorded[name]}, which can't be changed while anything is installed"
            yield parameter, f"{why}: {_RESTORE}"


def _principals(values: Mapping[str, str]) -> Iterator[Principal]:
    for arn in values["SourcePrincipalArns"].split(","):
        try:
            yield parse_principal(arn)
        except ValueError:
            continue  # reported with the settings


def _outside_accounts(values: Mapping[str, str], location: Location, client: ClientFactory) -> set[str]:
    """Return the source accounts that are not members of the organization."""
    outside = set()
    for account_id in {principal.account_id for principal in _principals(values)} - {location.account_id}:
        with translate_errors(f"describing account {account_id}"):
            try:
                client("organizations").describe_account(AccountId=account_id)
            except ClientError as error:
                if error.response["Error"]["Code"] != "AccountNotFoundException":
                    raise
                outside.add(str(account_id))
    return outside


def _missing_external_id(values: Mapping[str, str], outside: Collection[str]) -> Iterator[_Problem]:
    if outside and not values["ExternalId"]:
        yield "ExternalId", f"is not set: {why_external_id(min(outside))}"


def _unwritable(values: Mapping[str, str], outside: Collection[str]) -> Iterator[_Problem]:
    if outside and _keeps_source_policy(values):
        why = f"contains principals of account {min(outside)}, which is not a member of the organization"
        yield "SourcePrincipalArns", f"{why}, so no source policy can be written there: set SourcePolicyScope=none"


def _missing_principals(
    values: Mapping[str, str], location: Location, client: ClientFactory, outside: Collection[str]
) -> Iterator[_Problem]:
    # Those of another partition are reported with the settings.
    ours = [principal for principal in _principals(values) if principal.partition == location.partition]
    principals = [each for each in ours if each.kind != "root" and each.account_id not in outside]
    in_account: dict[str, IAMClient] = {}
    for principal in principals:
        account_id = principal.account_id
        if account_id not in in_account:
            is_here = account_id == location.account_id
            in_account[account_id] = client("iam") if is_here else _enter(account_id, values, location, client)
        with translate_errors(f"reading {principal.arn}"):
            found = list(principal_arns(principal, in_account[account_id]))
        if not any(fnmatchcase(arn, principal.arn) for arn in found):
            like = f" ({', '.join(found)} does)" if found and "*" not in principal.name else ""
            yield (
                "SourcePrincipalArns",
                f"contains {principal.arn}, which does not exist{like}: create the {principal.kind}, or correct the ARN",
            )


def _enter(account_id: str, values: Mapping[str, str], location: Location, client: ClientFactory) -> "IAMClient":
    """Return a client with the first access role that can be assumed in another account."""
    errors = []
    for name in _access_roles(values):
        arn = role_arn(location.partition, account_id, name)
        try:
            with translate_errors(f"assuming {arn}"):
                assumed = client("sts").assume_role(
                    RoleArn=arn, RoleSessionName=SESSION_NAME, Policy=json.dumps(_READS)
                )
                return client("iam", keys=assumed["Credentials"])
        except CommandError as error:
            errors.append(str(error))
    raise CommandError("; ".join(errors))


def _missing_units(values: Mapping[str, str], client: ClientFactory) -> Iterator[_Problem]:
    for parameter in ("IncludeOuIds", "ExcludeOuIds", "AccessRoleTargets"):
        for unit in filter(lambda target: target.startswith("ou-"), values[parameter].split(",")):
            with translate_errors(f"reading {unit}"):
                try:
                    client("organizations").describe_organizational_unit(OrganizationalUnitId=unit)
                    continue
                except ClientError as error:
                    if error.response["Error"]["Code"] != "OrganizationalUnitNotFoundException":
                        raise
            yield parameter, f"contains {unit}, which does not exist in this organization: correct or remove it"


def _missing_bus(values: Mapping[str, str], client: ClientFactory) -> Iterator[_Problem]:
    name = values["EventBusName"]
    if name in {"", "default"}:
        return
    with translate_errors(f"reading event bus {name}"):
        try:
            client("events").describe_event_bus(Name=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
        else:
            return
    yield "EventBusName", f"is {name}, which does not exist in this account and region: create it, or set another name"


def _too_many_policies(values: Mapping[str, str], location: Location, client: ClientFactory) -> Iterator[_Problem]:
    filled = values["MemberRolePolicyArns"].replace("{partition}", location.partition)
    count = len(set(filled.replace("{account_id}", location.account_id).split(",")))
    if count <= DEFAULT_ATTACHMENTS:
        return  # No account has a lower quota.
    with translate_errors("reading the account's quotas"):
        quota = attachment_quota(client("iam").get_account_summary()["SummaryMap"], "role")
    if count > quota:
        why = f"contains {count} policies, and the quota of account {location.account_id} allows {quota} per role"
        yield "MemberRolePolicyArns", f"{why}: name fewer, or have the quota raised there and in every account"


def _names_in_use(values: Mapping[str, str], client: ClientFactory) -> Iterator[_Problem]:
    """Yield the names that other stages in this account and region use; they are recognized by their parameters."""
    ours = _Names.of(values)
    with translate_errors("listing the stacks"):
        pages = client("cloudformation").get_paginator("describe_stacks").paginate()
        stacks = [stack for page in pages for stack in page["Stacks"]]
    for stack in stacks:
        pairs = stack.get("Parameters", [])
        parameters = {each.get("ParameterKey", ""): each.get("ParameterValue", "") for each in pairs}
        is_stage = {"Stage", "MemberRoleName", "SourcePolicyName", "SourcePrincipalArns"} <= parameters.keys()
        if is_stage and parameters["Stage"] != ours.stage and stack["StackStatus"] not in NEVER_CREATED:
            yield from _collisions(
                ours, _Names.of({"AccessRoleNames": "", "AccessRoleStackSet": "false", **parameters})
            )


def _collisions(ours: _Names, theirs: _Names) -> Iterator[_Problem]:
    other = f"stage {theirs.stage}"
    role, another = ours.member_role, "set another name"
    if role.lower() == theirs.member_role.lower():
        yield "MemberRoleName", f"is {role}, which is also the member role of {other}: {another}"
    if theirs.parameters_with(role):
        yield "MemberRoleName", f"is {role}, which is a source principal or access role of {other}: {another}"
    for parameter in ours.parameters_with(theirs.member_role):
        yield parameter, f"contains {theirs.member_role}, which is the member role of {other}: name another role"
    in_one_account = ours.source_account_id is not None and ours.source_account_id == theirs.source_account_id
    if in_one_account and ours.shards & theirs.shards:
        why = f"is {ours.source_policy}, and {theirs.source_policy} is the source policy of {other} in the same account"
        yield "SourcePolicyName", f"{why} (their shards end in -2, -3, …): {another}"
