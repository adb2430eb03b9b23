"""The source principals that exist in an account."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.arns import Principal

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_RESERVED_PATH = "/aws-reserved/sso.amazonaws.com/"


def principal_arns(principal: Principal, iam: "IAMClient") -> Iterator[str]:
    """Yield the ARN of the role or user of this name, if it exists.

    For a name with a wildcard, yield those of all roles of IAM Identity Center.
    """
    if "*" in principal.name:
        for page in iam.get_paginator("list_roles").paginate(PathPrefix=_RESERVED_PATH):
            yield from (role["Arn"] for role in page["Roles"])
        return
    try:
        if principal.kind == "role":
            yield iam.get_role(RoleName=principal.name)["Role"]["Arn"]
        else:
            yield iam.get_user(UserName=principal.name)["User"]["Arn"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
