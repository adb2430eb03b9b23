"""Single calls of AWS, written down to be tried and to be denied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.organization import Credentials, LocalOrganization

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
ANYTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
ANYBODY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'


@dataclass(frozen=True)
class Call:
    """A call, by the action that IAM knows it as; `<name>` in an argument stands for a value that a test knows."""

    action: str
    method: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join([self.action, *(str(value) for value in self.arguments.values() if value not in _DOCUMENTS)])

    def is_denied(self, organization: LocalOrganization, session: Credentials, why: str, **values: str) -> None:
        """Make the call and see it denied, for want of a permission in what `why` names."""
        with pytest.raises(ClientError, match=rf"not authorized to perform: {self.action} .* because no {why} allows"):
            self._make(organization, session, values)

    def is_allowed(self, organization: LocalOrganization, session: Credentials, **values: str) -> bool:
        """Make the call, and return whether it was allowed."""
        try:
            self._make(organization, session, values)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
                raise
            return False
        return True

    def _make(self, organization: LocalOrganization, session: Credentials, values: Mapping[str, str]) -> None:
        client = organization.client(self.action.partition(":")[0], credentials=session)
        arguments = {key: _filled(value, values) for key, value in self.arguments.items()}
        getattr(client, self.method)(**arguments)


_DOCUMENTS = (ANYTHING, ANYBODY)


def call(action: str, method: str, **arguments: Any) -> Call:
    """Write down a call."""
    return Call(action, method, arguments)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value not in _DOCUMENTS:
        for name, text in values.items():
            value = value.replace(f"<{name}>", text)
    return value


OTHER_BOUNDARIES = [
    call("iam:CreateRole", "create_role", RoleName="Bounded", AssumeRolePolicyDocument=ANYBODY),
    call(
        "iam:CreateRole",
        "create_role",
        RoleName="Bounded",
        AssumeRolePolicyDocument=ANYBODY,
        PermissionsBoundary=ADMINISTRATOR,
    ),
    call("iam:DeleteRolePermissionsBoundary", "delete_role_permissions_boundary", RoleName="Bounded"),
    call(
        "iam:PutRolePermissionsBoundary",
        "put_role_permissions_boundary",
        RoleName="Bounded",
        PermissionsBoundary=ADMINISTRATOR,
    ),
]
"""What would leave the role `Bounded` without its configured permissions boundary, or with another."""
