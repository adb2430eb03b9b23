"""StackSets with service-managed permissions: trusted access, instances, automatic deployment."""

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from emulator import events, organizations
from emulator.organizations import MANAGEMENT, levels_above
from ministack.core.responses import get_region, new_uuid, request_scope
from ministack.services import iam
from ministack.services import organizations as ministack_organizations
from ministack.services.cloudformation import engine, handlers, helpers, provisioners

_PAGE_SIZE = 100
_STATUS_BY_STATE = {"SUCCEEDED": "CURRENT", "INOPERABLE": "INOPERABLE"}


@dataclass
class _Instance:
    """The stack in one account; `resources` are the type, the physical id and the properties of each."""

    account_id: str
    unit_id: str
    state: str = "PENDING"
    reason: str = ""
    resources: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@dataclass
class _StackSet:
    id: str
    properties: dict[str, Any]
    region: str
    instances: dict[str, _Instance] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The ids of the root or the organizational units that it is deployed to."""
        (group,) = self.properties["StackInstancesGroup"]
        targets: list[str] = group["DeploymentTargets"]["OrganizationalUnitIds"]
        return targets


_stack_sets: dict[str, _StackSet] = {}
_has_access = False
_lock = threading.RLock()


def patch() -> None:
    """Add the resource and the operations, and deploy automatically after each change of the organization."""
    provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::StackSet"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
    handlers._ACTION_HANDLERS.update(
        ActivateOrganizationsAccess=lambda _: _switch_access(has_access=True),
        DeactivateOrganizationsAccess=lambda _: _switch_access(has_access=False),
        DescribeOrganizationsAccess=_describe_access,
        DescribeStackSet=_describe,
        ListStackInstances=_list_instances,
        UpdateStackInstances=_update_instances,
    )
    events.api_call = _then_deploy(events.api_call)
    events.service_event = _then_deploy(events.service_event)


def reset() -> None:
    """Delete all StackSets; a new organization has no trusted access."""
    with _lock:
        _stack_sets.clear()
        _switch_access(has_access=False)


def _then_deploy(emit: Callable[..., None]) -> Callable[..., None]:
    """Organizations emits an event for each of its changes, after which StackSets begins to deploy."""

    def emit_and_deploy(*arguments: Any) -> None:
        emit(*arguments)
        if _stack_sets:
            organizations._later(_deploy_automatically)

    return emit_and_deploy


def _deploy_automatically() -> None:
    with _lock:
        for stack_set in list(_stack_sets.values()):
            if _has_access and stack_set.properties["AutoDeployment"]["Enabled"]:
                _reconcile(stack_set)


def _create(_logical_id: str, props: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, Any]]:
    name = props["StackSetName"]
    if props["PermissionModel"] != "SERVICE_MANAGED" or not _has_access:
        raise ValueError(
            "You must enable organizations access to operate a service managed stack set (Service: CloudFormation, Status Code: 400)"
        )
    with _lock:
        if name in _stack_sets:
            raise ValueError(f"Name {name} already exists")
        _check_targets(props)
        stack_set = _StackSet(f"{name}:{new_uuid()}", props, get_region())
        _stack_sets[name] = stack_set
        _reconcile(stack_set)
        return stack_set.id, {"StackSetId": stack_set.id}


def _update(
    physical_id: str, _old: dict[str, Any], new: dict[str, Any], _stack_name: str
) -> tuple[str, dict[str, Any]]:
    """Deploy to new targets, delete from former ones, and replace the stacks of all others."""
    _check_targets(new)
    with _lock:
        stack_set = _stack_sets[new["StackSetName"]]
        stack_set.properties = new
        _reconcile(stack_set)
        for instance in stack_set.instances.values():
            if _remove(stack_set, instance):
                _deploy(stack_set, instance)
    return physical_id, {"StackSetId": physical_id}


def _delete(_physical_id: str, props: dict[str, Any]) -> None:
    """Delete the instances, and then the StackSet; it stays if one of them could not be deleted."""
    with _lock:
        stack_set = _stack_sets.get(props["StackSetName"])
        if stack_set is None:
            return
        for account_id, instance in list(stack_set.instances.items()):
            if _remove(stack_set, instance):
                del stack_set.instances[account_id]
        if stack_set.instances:
            raise ValueError("StackSet operation FAILED: stack instances could not be deleted")
        del _stack_sets[props["StackSetName"]]


def _check_targets(props: dict[str, Any]) -> None:
    (group,) = props["StackInstancesGroup"]
    for target in group["DeploymentTargets"]["OrganizationalUnitIds"]:
        with request_scope(MANAGEMENT, get_region()):
            if target not in ministack_organizations._roots and target not in ministack_organizations._ous:
                raise ValueError(f"Organizational unit [{target}] not found")


def _reconcile(stack_set: _StackSet) -> None:
    """Deploy to accounts below the targets without an instance, and delete the instances of all others."""
    targeted = dict(_targeted(stack_set))
    for account_id, instance in list(stack_set.instances.items()):
        if account_id not in targeted and _remove(stack_set, instance):
            del stack_set.instances[account_id]
    for account_id, unit_id in targeted.items():
        if account_id not in stack_set.instances:
            stack_set.instances[account_id] = _Instance(account_id, unit_id)
            _deploy(stack_set, stack_set.instances[account_id])


def _targeted(stack_set: _StackSet) -> Iterator[tuple[str, str]]:
    """Yield each account with the target above it; service-managed StackSets skip the management account."""
    with request_scope(MANAGEMENT, stack_set.region):
        for account_id, account in list(ministack_organizations._accounts.items()):
            unit = next((level for level in levels_above(account_id) if level in stack_set.targets), None)
            if unit and account_id != MANAGEMENT and account.get("State", "ACTIVE") != "PENDING_ACTIVATION":
                yield account_id, unit


def _deploy(stack_set: _StackSet, instance: _Instance) -> None:
    """Create the resources of the template in an account, or none of them if one fails."""
    with request_scope(MANAGEMENT, stack_set.region):
        account = ministack_organizations._accounts[instance.account_id]
    if account.get("State", "ACTIVE") not in {"ACTIVE", "PENDING_CLOSURE"}:
        instance.state, instance.reason = "SKIPPED_SUSPENDED_ACCOUNT", "Account is suspended"
        return
    with request_scope(instance.account_id, stack_set.region):
        try:
            for resource in _provisioned(stack_set.properties):
                instance.resources.append(resource)
        except ValueError as error:
            _remove(stack_set, instance)
            instance.state, instance.reason = "FAILED", str(error)
        else:
            instance.state, instance.reason = "SUCCEEDED", ""


def _provisioned(props: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Create the resources of a StackSet's template in the account of the request, and yield each."""
    stack, stack_id = f"StackSet-{props['StackSetName']}", f"arn:aws:cloudformation:::stack/{new_uuid()}"
    template = engine._parse_template(props["TemplateBody"])
    given = [{"Key": each["ParameterKey"], "Value": str(each["ParameterValue"])} for each in props["Parameters"]]
    values = engine._resolve_parameters(template, given)
    conditions, created = engine._evaluate_conditions(template, values), {}
    for logical_id in engine._topological_sort(template["Resources"], conditions):
        resource = template["Resources"][logical_id]
        kind, declared = resource["Type"], copy.deepcopy(resource["Properties"])
        resolved = engine._resolve_refs(declared, created, values, conditions, {}, stack, stack_id)
        if kind == "AWS::IAM::Role" and resolved["RoleName"] in iam._roles:
            raise ValueError(
                f"ResourceLogicalId:{logical_id}, ResourceType:{kind}, {resolved['RoleName']} already exists"
            )
        tagged = provisioners._with_stack_tags(kind, resolved, props["Tags"], stack, stack_id, logical_id)
        physical_id, attributes = provisioners._provision_resource(kind, logical_id, tagged, stack)
        created[logical_id] = {"PhysicalResourceId": physical_id, "Attributes": attributes, "ResourceType": kind}
        yield kind, physical_id, tagged


def _remove(stack_set: _StackSet, instance: _Instance) -> bool:
    """Delete the stack of an account, and return whether that succeeded."""
    with request_scope(instance.account_id, stack_set.region):
        while instance.resources:
            kind, physical_id, props = instance.resources[-1]
            if kind == "AWS::IAM::Role" and iam._roles.get(physical_id, {}).get("AttachedPolicies"):
                instance.state = "INOPERABLE"
                instance.reason = "Cannot delete entity, must detach all policies first."
                return False
            provisioners._delete_resource(kind, physical_id, props, f"StackSet-{stack_set.id}")
            instance.resources.pop()
    return True


def _switch_access(*, has_access: bool) -> Any:
    global _has_access  # noqa: PLW0603 - a setting of the one organization
    _has_access = has_access
    name = f"{'Activate' if has_access else 'Deactivate'}OrganizationsAccess"
    return helpers._xml(200, f"{name}Response", f"<{name}Result/>")


def _describe_access(_: dict[str, Any]) -> Any:
    status = "ENABLED" if _has_access else "DISABLED"
    result = f"<DescribeOrganizationsAccessResult><Status>{status}</Status></DescribeOrganizationsAccessResult>"
    return helpers._xml(200, "DescribeOrganizationsAccessResponse", result)


def _named(params: dict[str, Any]) -> _StackSet | None:
    return _stack_sets.get(helpers._p(params, "StackSetName").partition(":")[0])


def _not_found(params: dict[str, Any]) -> Any:
    name = helpers._p(params, "StackSetName")
    return helpers._error("StackSetNotFoundException", f"StackSet {name} not found", 404)


def _describe(params: dict[str, Any]) -> Any:
    stack_set = _named(params)
    if stack_set is None:
        return _not_found(params)
    name = stack_set.properties["StackSetName"]
    described = f"<StackSetName>{name}</StackSetName><StackSetId>{stack_set.id}</StackSetId><Status>ACTIVE</Status>"
    result = f"<DescribeStackSetResult><StackSet>{described}</StackSet></DescribeStackSetResult>"
    return helpers._xml(200, "DescribeStackSetResponse", result)


def _list_instances(params: dict[str, Any]) -> Any:
    """Return a page of the instances in a detailed status, which is the only filter."""
    stack_set = _named(params)
    if stack_set is None:
        return _not_found(params)
    state, start = helpers._p(params, "Filters.member.1.Values"), int(helpers._p(params, "NextToken", "0"))
    found = [each for each in stack_set.instances.values() if state in {"", each.state}]
    more = f"<NextToken>{start + _PAGE_SIZE}</NextToken>" if len(found) > start + _PAGE_SIZE else ""
    listed = "".join(_summary(stack_set, each) for each in found[start : start + _PAGE_SIZE])
    result = f"<ListStackInstancesResult><Summaries>{listed}</Summaries>{more}</ListStackInstancesResult>"
    return helpers._xml(200, "ListStackInstancesResponse", result)


def _summary(stack_set: _StackSet, instance: _Instance) -> str:
    return (
        f"<member><StackSetId>{stack_set.id}</StackSetId><Region>{stack_set.region}</Region>"
        f"<Account>{instance.account_id}</Account><OrganizationalUnitId>{instance.unit_id}</OrganizationalUnitId>"
        f"<Status>{_STATUS_BY_STATE.get(instance.state, 'OUTDATED')}</Status><StatusReason>{escape(instance.reason)}</StatusReason>"
        f"<StackInstanceStatus><DetailedStatus>{instance.state}</DetailedStatus></StackInstanceStatus></member>"
    )


def _update_instances(params: dict[str, Any]) -> Any:
    """Deploy again to accounts of the targets, as an operator does after the cause of a failure was removed."""
    stack_set = _named(params)
    if stack_set is None:
        return _not_found(params)
    accounts = helpers._extract_string_members(params, "DeploymentTargets.Accounts")
    with _lock:
        for account_id in accounts:
            instance = stack_set.instances[account_id]
            if _remove(stack_set, instance):
                _deploy(stack_set, instance)
    result = f"<UpdateStackInstancesResult><OperationId>{new_uuid()}</OperationId></UpdateStackInstancesResult>"
    return helpers._xml(200, "UpdateStackInstancesResponse", result)
