"""What narrows a principal's own policies, service control policies among it; and a denial says which of them decided."""

import contextvars
from collections.abc import Callable
from typing import Any

from emulator.organizations import MANAGEMENT, levels_above
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import request_scope
from ministack.services import organizations

_why: contextvars.ContextVar[str] = contextvars.ContextVar("why", default="")


class _Limit(list[Any]):
    """Parsed policies of one kind, one of which must allow, too, and any of which may deny."""

    def __init__(self, kind: str, policies: list[Any]) -> None:
        super().__init__(policies)
        self.kind = kind


def mend() -> None:
    """Name each limit, add those of the organization, and let a denial tell."""
    iam_evaluator._session_policy_limits = _named("session policy", iam_evaluator._session_policy_limits)
    iam_evaluator._permissions_boundary = _named("permissions boundary", iam_evaluator._permissions_boundary)
    iam_evaluator.resolve_principal = _with_service_control_policies(iam_evaluator.resolve_principal)
    iam_evaluator.evaluate = _explained(iam_evaluator.evaluate)
    iam_evaluator.enforce = _remembered(iam_evaluator.enforce)
    iam_actions.identity_denial_message = _message
    iam_actions.access_denied_response = _with_message(iam_actions.access_denied_response)


def _named(kind: str, limits: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    return lambda *arguments: [_Limit(kind, policies) for policies in limits(*arguments)]


def _with_service_control_policies(resolve_principal: Callable[..., Any]) -> Callable[..., Any]:
    """Hold members to the service control policies of every level above them; AWS leaves out the management account."""

    def resolve(*arguments: Any, **named: Any) -> Any:
        principal = resolve_principal(*arguments, **named)
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
    # AWS attaches FullAWSAccess to a new organizational unit; ministack does not.
    if not attached:
        attached = [organizations._policies[organizations.FULL_ACCESS_POLICY_ID]]
    documents = [iam_evaluator.parse_policy_document(policy["_Content"]) for policy in attached]
    return _Limit("service control policy", documents)


def _explained(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """Find the policies that decided: on AWS a denial names their kind."""

    def explain(context: Any, policies: list[Any], *limits: Any) -> Any:
        result = evaluate(context, policies, *limits)
        layers = [_Limit("identity-based policy", policies), *limits]
        if result.decision == "Deny":
            kind = next(layer.kind for layer in layers if evaluate(context, layer).decision == "Deny")
            result.reason = f"with an explicit deny in {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        elif result.decision == "ImplicitDeny":
            kind = next(layer.kind for layer in layers if evaluate(context, layer).decision != "Allow")
            result.reason = f"because no {kind} allows the {context.action} action"
        return result

    return explain


def _remembered(enforce: Callable[..., Any]) -> Callable[..., Any]:
    def remember(*arguments: Any, **named: Any) -> Any:
        result = enforce(*arguments, **named)
        _why.set(getattr(result, "reason", ""))
        return result

    return remember


def _message(action: str, principal_arn: str, resource: str, explicit_deny: bool) -> str:  # noqa: ARG001, FBT001 - as ministack calls it
    """Write what AWS writes, the resource in it."""
    return f"User: {principal_arn} is not authorized to perform: {action} on resource: {resource} {_why.get()}"


def _with_message(access_denied_response: Callable[..., Any]) -> Callable[..., Any]:
    def respond(service: str, action: str, principal_arn: str, request_id: str, **details: Any) -> Any:
        if not details.get("error_code") and not details.get("message") and not details.get("resource_policy_arn"):
            details["message"] = _message(action, principal_arn, details.get("resource_arn", "*"), explicit_deny=False)
        return access_denied_response(service, action, principal_arn, request_id, **details)

    return respond
