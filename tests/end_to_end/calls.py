"""Single AWS calls, and whether a session is allowed to make them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.organization import Credentials, LocalOrganization

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
ALLOW_EVERYTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
TRUST_ANY_PRINCIPAL = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
)


@dataclass(frozen=True)
class Call:
    """A call, named by its IAM action; `<name>` in an argument is replaced by a value of the test."""

    action: str
    method: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join([self.action, *(str(value) for value in self.arguments.values() if value not in _DOCUMENTS)])

    def is_denied(self, organization: LocalOrganization, session: Credentials, why: str, **values: str) -> None:
        """Assert that the call is denied because no policy of the kind `why` allows it."""
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


_DOCUMENTS = (ALLOW_EVERYTHING, TRUST_ANY_PRINCIPAL)


def call(action: str, method: str, **arguments: Any) -> Call:
    """Build a call."""
    return Call(action, method, arguments)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value not in _DOCUMENTS:
        for name, text in values.items():
            value = value.replace(f"<{name}>", text)
    return value


OTHER_BOUNDARIES = [
    call("iam:CreateRole", "create_role", RoleName="Bounded", AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL),
    call(
        "iam:CreateRole",
        "create_role",
        RoleName="Bounded",
        AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL,
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
"""Calls that would leave the role `Bounded` without its configured permissions boundary, or with another."""
