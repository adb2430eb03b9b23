"""The source principals in IAM: their room for policies, and the shards that are attached to them."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.arns import Principal
from chalicelib.aws.errors import error_code
from chalicelib.errors import Reason, TerminalError
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

DEFAULT_ATTACHMENTS = 10
"""Managed policies of a role or user, adjustable ("IAM and AWS STS quotas")."""


def attachment_quota(summary: Mapping[Any, int], kind: str) -> int:
    """Return how many managed policies a role or user may have by IAM's account summary, which may lack the quota."""
    return summary.get(f"AttachedPoliciesPer{kind.title()}Quota", DEFAULT_ATTACHMENTS)


class SourcePrincipals:
    """Reads and changes attachments, in the account that has been entered."""

    def __init__(self, settings: Settings, client: "IAMClient", writer: "Callable[[], IAMClient]") -> None:
        """Take the client, and what returns it for one call that writes."""
        self._settings = settings
        self._client = client
        self._writer = writer

    def room(self, shards: Collection[str]) -> int:
        """Return how many shards every source principal has room for, besides its other policies; `shards` are ARNs.

        Raise TerminalError if a source principal doesn't exist.
        """
        summary = self._client.get_account_summary()["SummaryMap"]
        return min(
            attachment_quota(summary, principal.kind) - len(self._attached(principal) - set(shards))
            for principal in self._settings.attachable_principals
        )

    def _attached(self, principal: Principal) -> set[str]:
        try:
            if principal.kind == "role":
                roles = self._client.get_paginator("list_attached_role_policies").paginate(RoleName=principal.name)
                return {policy["PolicyArn"] for page in roles for policy in page["AttachedPolicies"]}
            users = self._client.get_paginator("list_attached_user_policies").paginate(UserName=principal.name)
            return {policy["PolicyArn"] for page in users for policy in page["AttachedPolicies"]}
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                raise _no_principal(principal) from error
            raise

    def attach(self, arn: str, principal: Principal) -> None:
        """Attach a policy; raise TerminalError if the principal doesn't exist."""
        try:
            if principal.kind == "role":
                self._writer().attach_role_policy(RoleName=principal.name, PolicyArn=arn)
            else:
                self._writer().attach_user_policy(UserName=principal.name, PolicyArn=arn)
        except ClientError as error:
            if error_code(error) == "NoSuchEntity" and "attachable" not in str(error):
                raise _no_principal(principal) from error
            raise

    def detach(self, arn: str, principal: Principal) -> None:
        """Detach a policy, if it is attached."""
        try:
            if principal.kind == "role":
                self._writer().detach_role_policy(RoleName=principal.name, PolicyArn=arn)
            else:
                self._writer().detach_user_policy(UserName=principal.name, PolicyArn=arn)
        except ClientError as error:
            if error_code(error) != "NoSuchEntity":
                raise


def _no_principal(principal: Principal) -> TerminalError:
    return TerminalError(
        Reason.NO_SOURCE_PRINCIPAL,
        f"{principal.arn} does not exist, so the source policy can't be attached to it: create it, correct SourcePrincipalArns, "
        "or set AttachSourcePolicy=false and attach the source policy yourself",
    )
