"""The resource that a request is authorized on, and the request's condition keys."""

from typing import Any

from emulator.organizations import MANAGEMENT
from ministack.core import iam_actions
from ministack.services import iam
from ministack.services import organizations as ministack_organizations


def patch() -> None:
    """Wrap what ministack extracts from a request for its authorization."""
    extract_resource_arn = iam_actions.extract_resource_arn
    request_tag_context = iam_actions.request_tag_context

    def resource(service: str, method: str, path: str, headers: Any, body: bytes, params: Any, *where: str) -> str:
        arn = None
        if service == "iam":
            arn = _iam_arn(params, account_id=where[1])
        elif service == "organizations":
            arn = _organizations_arn(body)
        elif service == "cloudformation" and (name := _first(params, "StackSetName")):
            arn = f"arn:aws:cloudformation:{where[0]}:{where[1]}:stackset/{name.partition(':')[0]}:id"
        elif service == "sqs":
            arn = iam_actions._safe_json_field(body, "SourceArn")  # of a message move task
        return arn or str(extract_resource_arn(service, method, path, headers, body, params, *where))

    def context(service: str, iam_action: str, body: bytes, params: Any) -> dict[str, Any]:
        keys: dict[str, Any] = request_tag_context(service, iam_action, body, params)
        if iam_action == "sts:AssumeRole":
            keys["sts:ExternalId"] = _first(params, "ExternalId") or None
        return keys | _iam_context(params) if service == "iam" else keys

    iam_actions.extract_resource_arn = resource
    iam_actions.request_tag_context = context


def _first(params: Any, name: str) -> str:
    return str(iam_actions._query_param(params, name))


def _iam_arn(params: Any, account_id: str) -> str | None:
    """Return the full ARN of the role, user or policy that a call is about, including its path."""
    new_path = _first(params, "Path") or "/"
    for kind, store in (("role", iam._roles), ("user", iam._users)):
        if name := _first(params, f"{kind.title()}Name"):
            existing = store.get_scoped(account_id, None, name)
            return str(existing["Arn"]) if existing else f"arn:aws:iam::{account_id}:{kind}{new_path}{name}"
    if name := _first(params, "PolicyName"):  # of CreatePolicy; calls about inline policies have a role or user
        return f"arn:aws:iam::{account_id}:policy{new_path}{name}"
    return None


def _organizations_arn(body: bytes) -> str | None:
    """Return the ARN of the account or organizational unit that a call is about, or `*` for a listing."""
    record = None
    for field in ("AccountId", "ChildId", "OrganizationalUnitId", "ParentId", "ResourceId"):
        if name := iam_actions._safe_json_field(body, field):
            for store in (
                ministack_organizations._accounts,
                ministack_organizations._ous,
                ministack_organizations._roots,
            ):
                record = record or store.get_scoped(MANAGEMENT, None, name)
            organization = ministack_organizations._orgs.get_scoped(MANAGEMENT, None, "self")["Id"]
            kind = "ou" if name.startswith("ou-") else "account"
            return str(record["Arn"]) if record else f"arn:aws:organizations::{MANAGEMENT}:{kind}/{organization}/{name}"
    return "*"


def _iam_context(params: Any) -> dict[str, Any]:
    """Return the policy that is attached or detached, and the boundary in the request or of the existing role."""
    context = {}
    if arn := _first(params, "PolicyArn"):
        context["iam:PolicyARN"] = arn
    existing = {}
    if not _first(params, "Action").startswith("Create"):
        existing = iam._roles.get(_first(params, "RoleName")) or iam._users.get(_first(params, "UserName")) or {}
    if boundary := _first(params, "PermissionsBoundary") or existing.get("PermissionsBoundary"):
        context["iam:PermissionsBoundary"] = boundary
    return context
