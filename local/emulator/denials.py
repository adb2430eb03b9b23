"""What a denial says."""

from typing import Any

from ministack.core import iam_actions


def mend() -> None:
    """AWS names the resource in every denial."""
    access_denied_response = iam_actions.access_denied_response

    def respond(service: str, action: str, principal_arn: str, request_id: str, **details: Any) -> Any:
        if not details.get("error_code") and not details.get("message") and not details.get("resource_policy_arn"):
            details["message"] = iam_actions.identity_denial_message(
                action, principal_arn, details.get("resource_arn", "*"), details.get("explicit_deny", False)
            )
        return access_denied_response(service, action, principal_arn, request_id, **details)

    iam_actions.access_denied_response = respond
