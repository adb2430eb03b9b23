"""Which resource a request is authorized on, and the condition keys it brings."""

from typing import Any

from emulator.organizations import MANAGEMENT
from ministack.core import iam_actions
from ministack.services import iam
from ministack.services import organizations as ministack_organizations


def mend() -> None:
    """Wrap what ministack reads from a request before it is authorized."""
    extract_resource_arn = iam_actions.extract_resource_arn
    request_tag_context = iam_actions.request_tag_context

    def resource(service: str, method: str, path: str, headers: Any, body: bytes, params: Any, *where: str) -> str:
        arn = None
        if service == "iam":
            arn = _iam_arn(params, account_id=where[1])
        elif service == "organizations":
            arn = _organizations_arn(body)
        elif service == "sqs":
            arn = iam_actions._safe_json_field(body, "SourceArn")  # of a message move task
        return arn or str(extract_resource_arn(service, method, path, headers, body, params, *where))

    def context(service: str, iam_action: str, body: bytes, params: Any) -> dict[str, Any]:
        keys: dict[str, Any] = request_tag_context(service, iam_action, body, params)
        return keys | _iam_context(params) if service == "iam" else keys

    iam_actions.extract_resource_arn = resource
    iam_actions.request_tag_context = context


def _first(params: Any, name: str) -> str:
    return str(iam_actions._query_param(params, name))


def _iam_arn(params: Any, account_id: str) -> str | None:
    """AWS authorizes a call of IAM on the real ARN of the role, user or policy: its path is part of it."""
    new_path = _first(params, "Path") or "/"
    for kind, store in (("role", iam._roles), ("user", iam._users)):
        if name := _first(params, f"{kind.title()}Name"):
            there = store.get_scoped(account_id, None, name)
            return str(there["Arn"]) if there else f"arn:aws:iam::{account_id}:{kind}{new_path}{name}"
    if name := _first(params, "PolicyName"):  # CreatePolicy's; those of inline policies come with a role or user
        return f"arn:aws:iam::{account_id}:policy{new_path}{name}"
    return None


def _organizations_arn(body: bytes) -> str | None:
    """AWS authorizes a call about one account or organizational unit on its ARN, and a listing of accounts on none."""
    record = None
    for field in ("AccountId", "ChildId", "OrganizationalUnitId", "ParentId"):
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
    """AWS tells conditions which policy is attached or detached, and the boundary that is set or was there before."""
    context = {}
    if arn := _first(params, "PolicyArn"):
        context["iam:PolicyARN"] = arn
    there = {}
    if not _first(params, "Action").startswith("Create"):
        there = iam._roles.get(_first(params, "RoleName")) or iam._users.get(_first(params, "UserName")) or {}
    if boundary := _first(params, "PermissionsBoundary") or there.get("PermissionsBoundary"):
        context["iam:PermissionsBoundary"] = boundary
    return context
