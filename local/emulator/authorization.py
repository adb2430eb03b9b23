"""Permissions that a call needs in addition to the one with its own name."""

from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_region, new_uuid
from ministack.core.router import extract_access_key_id


def denied(
    headers: dict[str, str], query: dict[str, Any], action: str, arn: str, keys: dict[str, Any] | None = None
) -> Any:
    """Return AWS's error response if the caller may not perform an action on a resource, otherwise None."""
    service = action.partition(":")[0]
    caller = extract_access_key_id(headers, query)
    denial = iam_evaluator.enforce(caller, action, service, get_region(), resource_arn=arn, service_context=keys)
    if not denial:
        return None
    return iam_actions.access_denied_response(
        service,
        action,
        denial.principal_arn,
        new_uuid(),
        headers=headers,
        resource_arn=arn,
        explicit_deny=denial.decision == "Deny",
    )
