"""CloudFormation: functions in conditions, the checks of event source mappings, dashboard bodies, roles, and trails."""

import json
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudtrail, iam, lambda_svc, s3
from ministack.services.cloudformation import _stacks as stacks_by_name
from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks

_EVENT_SOURCE = "AWS::Lambda::EventSourceMapping"
_REQUIRED_ACTIONS = {
    "sqs": ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"),
    "dynamodb": ("GetRecords", "GetShardIterator", "DescribeStream", "ListStreams"),
}
_NAMES = {"sqs": "SQS", "dynamodb": "DynamoDB"}
_MAX_FIFO_BATCH = 10
_NUMBERS = ("BatchSize", "MaximumBatchingWindowInSeconds")


def patch() -> None:
    """Wrap conditions, event source mappings and dashboard bodies, and add role policies and trails."""
    evaluate = engine._evaluate_conditions

    def evaluate_resolved(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        return evaluate(template | {"Conditions": _resolved(template.get("Conditions", {}), params)}, params)

    for module in (engine, changesets, handlers, stacks):
        module._evaluate_conditions = evaluate_resolved
    mapping = provisioners._RESOURCE_HANDLERS[_EVENT_SOURCE]
    create, update = mapping["create"], mapping["update"]

    def checked_create(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        _check_fifo_limits(_with_numbers(props))
        _check_permissions(props)
        return create(logical_id, _with_numbers(props), stack_name)

    def checked_update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack_name: str) -> Any:
        _check_fifo_limits(_with_numbers(new))
        _check_permissions(new)
        return update(physical_id, _with_numbers(old), _with_numbers(new), stack_name)

    mapping.update(create=checked_create, update=checked_update)
    _bound_roles(provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"])
    dashboard_body = provisioners._cw_dashboard_body

    def parsed_body(props: dict[str, Any]) -> Any:
        """CloudWatch rejects a dashboard that isn't JSON."""
        body = dashboard_body(props)
        json.loads(body)
        return body

    provisioners._cw_dashboard_body = parsed_body
    provisioners._RESOURCE_HANDLERS["AWS::IAM::RolePolicy"] = {
        "create": _put_role_policy,
        "delete": _delete_role_policy,
    }
    describe_resources = handlers._ACTION_HANDLERS["DescribeStackResources"]
    handlers._ACTION_HANDLERS["DescribeStackResources"] = lambda params: describe_resources(_with_stack(params))
    provisioners._RESOURCE_HANDLERS["AWS::CloudTrail::Trail"] = {"create": _create_trail, "delete": _delete_trail}


def _with_stack(params: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation finds a stack by a resource that it contains, and returns all its resources."""
    physical_id = handlers._p(params, "PhysicalResourceId")
    if not physical_id:
        return params
    for name, stack in stacks_by_name.items():
        resources = stack.get("_resources", {}).values()
        deleted = stack.get("StackStatus") == "DELETE_COMPLETE"
        if not deleted and any(each.get("PhysicalResourceId") == physical_id for each in resources):
            return params | {"StackName": name}
    return params | {"StackName": physical_id}  # which no stack has: "does not exist"


def _bound_roles(operations: dict[str, Any]) -> None:
    """CloudFormation sets the permissions boundary of a role, and removes one that the template no longer has."""
    create, update = operations["create"], operations["update"]

    def create_bounded(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        created = create(logical_id, props, stack_name)
        iam._roles[created[0]]["PermissionsBoundary"] = props.get("PermissionsBoundary")
        return created

    def update_bounded(physical_id: str, old: dict[str, Any], new: dict[str, Any], *stack: Any, **names: Any) -> Any:
        updated = update(physical_id, old, new, *stack, **names)
        name = updated[0] if isinstance(updated, tuple) else physical_id
        iam._roles[name]["PermissionsBoundary"] = new.get("PermissionsBoundary")
        return updated

    operations.update(create=create_bounded, update=update_bounded)


def set_stack_status(stack: str, status: str) -> None:
    """Set the status of a stack of the management account."""
    stacks_by_name[stack]["StackStatus"] = status


def _resolved(node: Any, params: dict[str, Any]) -> Any:
    """CloudFormation resolves Fn::Select, Fn::Split and pseudo parameters in the operands of a condition."""
    match node:
        case {"Fn::Equals": operands}:
            return {"Fn::Equals": engine._resolve_refs(operands, {}, params, {}, {}, "", "")}
        case dict():
            return {key: _resolved(value, params) for key, value in node.items()}
        case list():
            return [_resolved(value, params) for value in node]
    return node


def _with_numbers(props: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation passes numbers to resources as numbers, also those from a Parameter."""
    numbers = {name: int(props[name]) for name in _NUMBERS if name in props}
    if scaling := props.get("ScalingConfig"):
        numbers["ScalingConfig"] = {name: int(value) for name, value in scaling.items()}
    return props | numbers


def _check_fifo_limits(props: dict[str, Any]) -> None:
    """Lambda supports no batching window and at most ten messages per batch for a FIFO queue."""
    if not props.get("EventSourceArn", "").endswith(".fifo"):
        return
    if props.get("MaximumBatchingWindowInSeconds"):
        raise ValueError("Batching window is not supported for FIFO queues")
    if props.get("BatchSize", _MAX_FIFO_BATCH) > _MAX_FIFO_BATCH:
        raise ValueError(f"The batch size of a FIFO queue must be at most {_MAX_FIFO_BATCH}")


def _check_permissions(props: dict[str, Any]) -> None:
    """Lambda rejects an event source that the function's role may not read, because it uses that role."""
    source = props.get("EventSourceArn", "")
    service = source.split(":")[2] if source else ""
    function, _ = lambda_svc._resolve_name_and_qualifier(props.get("FunctionName", ""))
    if service not in _REQUIRED_ACTIONS or function not in lambda_svc._functions:
        return
    role = lambda_svc._functions[function]["config"]["Role"].rpartition("/")[2]
    policies = iam_evaluator._gather_role_policies(role, get_account_id())
    for name in _REQUIRED_ACTIONS[service]:
        context = iam_evaluator.EvalContext(
            principal_arn=f"arn:aws:sts::{get_account_id()}:assumed-role/{role}/{function}",
            principal_type="AssumedRole",
            principal_account=get_account_id(),
            action=f"{service}:{name}",
            resource_arn=source,
            region=get_region(),
        )
        if iam_evaluator.evaluate(context, policies).decision != "Allow":
            raise ValueError(
                f"The function execution role does not have permissions to call {name} on {_NAMES[service]}"
            )


def _put_role_policy(_: str, props: dict[str, Any], __: str) -> tuple[str, dict[str, Any]]:
    name = props["PolicyName"]
    iam._roles[props["RoleName"]]["InlinePolicies"][name] = json.dumps(props["PolicyDocument"])
    return name, {}


def _delete_role_policy(name: str, props: dict[str, Any]) -> None:
    iam._roles[props["RoleName"]]["InlinePolicies"].pop(name, None)


def _create_trail(_: str, props: dict[str, Any], __: str) -> tuple[str, dict[str, Any]]:
    """CloudTrail rejects a bucket whose policy doesn't allow it to write."""
    name, bucket = props["TrailName"], props["S3BucketName"]
    statements = json.loads(s3._bucket_policies.get(bucket, "{}")).get("Statement", [])
    allowed = {each["Action"] for each in statements if each["Principal"] == {"Service": "cloudtrail.amazonaws.com"}}
    if allowed != {"s3:GetBucketAcl", "s3:PutObject"}:
        raise ValueError(f"Incorrect S3 bucket policy is detected for bucket: {bucket}")
    is_multi_region = str(props.get("IsMultiRegionTrail", False)).lower() == "true"
    cloudtrail._create_trail({"Name": name, "S3BucketName": bucket, "IsMultiRegionTrail": is_multi_region})
    if str(props["IsLogging"]).lower() == "true":
        cloudtrail._start_logging({"Name": name})
    return name, {}


def _delete_trail(name: str, _: dict[str, Any]) -> None:
    cloudtrail._delete_trail({"Name": name})
