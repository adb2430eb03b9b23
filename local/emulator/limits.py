"""Limits on a principal's policies, such as service control policies, and the policy type in denials."""

import contextvars
from collections.abc import Callable
from typing import Any

from emulator.organizations import MANAGEMENT, levels_above
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import request_scope
from ministack.services import organizations

_reason: contextvars.ContextVar[str] = contextvars.ContextVar("reason", default="")


class _Limit(list[Any]):
    """Parsed policies of one type: one of them must allow the action, and none may deny it."""

    def __init__(self, kind: str, policies: list[Any]) -> None:
        super().__init__(policies)
        self.kind = kind


def patch() -> None:
    """Label each limit with its type, add service control policies, and add the type to denial messages."""
    iam_evaluator._session_policy_limits = _labeled("session policy", iam_evaluator._session_policy_limits)
    iam_evaluator._permissions_boundary = _labeled("permissions boundary", iam_evaluator._permissions_boundary)
    iam_evaluator.resolve_principal = _with_service_control_policies(iam_evaluator.resolve_principal)
    iam_evaluator.evaluate = _with_reason(iam_evaluator.evaluate)
    iam_evaluator.enforce = _with_stored_reason(iam_evaluator.enforce)
    iam_actions.identity_denial_message = _message
    iam_actions.access_denied_response = _with_message(iam_actions.access_denied_response)


def _labeled(kind: str, limits: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    return lambda *arguments: [_Limit(kind, policies) for policies in limits(*arguments)]


def _with_service_control_policies(resolve_principal: Callable[..., Any]) -> Callable[..., Any]:
    """Apply the service control policies of every level above a member account; the management account is exempt."""

    def resolve(*arguments: Any, **options: Any) -> Any:
        principal = resolve_principal(*arguments, **options)
        if getattr(principal, "policies", None) is not None and principal.account != MANAGEMENT:
            with request_scope(MANAGEMENT, "us-east-1"):
                principal.limits += [_service_control_policies(level) for level in levels_above(principal.account)]
        return principal

    return resolve


def _service_control_policies(level: str) -> _Limit:
    attached = [
        policy
        for policy_id, policy in organizations._policies.items()
        if policy["Type"] == "SERVICE_CONTROL_POLICY" and level in (organizations._attachments.get(policy_id) or [])
    ]
    # AWS attaches FullAWSAccess to a new organizational unit; ministack doesn't.
    if not attached:
        attached = [organizations._policies[organizations.FULL_ACCESS_POLICY_ID]]
    documents = [iam_evaluator.parse_policy_document(policy["_Content"]) for policy in attached]
    return _Limit("service control policy", documents)


def _with_reason(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """AWS's denials contain the type of the policy that caused them."""

    def evaluate_with_reason(context: Any, policies: list[Any], *limits: Any) -> Any:
        result = evaluate(context, policies, *limits)
        layers = [_Limit("identity-based policy", policies), *limits]
        if result.decision == "Deny":
            kind = next(layer.kind for layer in layers if evaluate(context, layer).decision == "Deny")
            result.reason = f"with an explicit deny in {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        elif result.decision == "ImplicitDeny":
            kind = next(layer.kind for layer in layers if evaluate(context, layer).decision != "Allow")
            result.reason = f"because no {kind} allows the {context.action} action"
        return result

    return evaluate_with_reason


def _with_stored_reason(enforce: Callable[..., Any]) -> Callable[..., Any]:
    def enforce_and_store(*arguments: Any, **options: Any) -> Any:
        result = enforce(*arguments, **options)
        _reason.set(getattr(result, "reason", ""))
        return result

    return enforce_and_store


def _message(action: str, principal_arn: str, resource: str, explicit_deny: bool) -> str:  # noqa: ARG001, FBT001 - ministack's signature
    """Return AWS's message, which contains the resource."""
    return f"User: {principal_arn} is not authorized to perform: {action} on resource: {resource} {_reason.get()}"


def _with_message(access_denied_response: Callable[..., Any]) -> Callable[..., Any]:
    def respond(service: str, action: str, principal_arn: str, request_id: str, **details: Any) -> Any:
        if not details.get("error_code") and not details.get("message") and not details.get("resource_policy_arn"):
            details["message"] = _message(action, principal_arn, details.get("resource_arn", "*"), explicit_deny=False)
        return access_denied_response(service, action, principal_arn, request_id, **details)

    return respond
