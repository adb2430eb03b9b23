"""IAM in the member accounts: each account's member role keeps its role state."""

from dataclasses import replace
from urllib.parse import quote

from benchmarks.stub.response import Response, ServiceError, xml_response
from benchmarks.stub.role_states import RoleState, role_state_of
from chalicelib.documents import Document
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.settings import Settings

_ANY_ID = "000000000000"  # replaced by the account's id
_STRAY = "arn:aws:iam::aws:policy/AdministratorAccess"
_NO_TRUST = Document.of({"Version": "2012-10-17", "Statement": []})


class MemberAccounts:
    """Returns the role in its state, and accepts every write."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings that define an unchanged role."""
        desired = desired_role(settings, _ANY_ID)
        drifted = replace(desired, trust=_NO_TRUST, attached=desired.attached | {_STRAY})
        self._name = settings.member_role_name
        self._reads = {RoleState.UNCHANGED: self._responses(desired), RoleState.DRIFTED: self._responses(drifted)}
        created = xml_response("CreateRole", _role(desired, self._name, tags=False)).body
        self._written = {"CreateRole": created, "UpdateRole": xml_response("UpdateRole", "").body}

    def _responses(self, role: MemberRole) -> dict[str, bytes]:
        attached = "".join(
            f"<member><PolicyName>{arn.rpartition('/')[2]}</PolicyName><PolicyArn>{arn}</PolicyArn></member>"
            for arn in sorted(role.attached)
        )
        names = "".join(f"<member>{name}</member>" for name in sorted(role.inline))
        read = {
            "GetRole": _role(role, self._name),
            "ListAttachedRolePolicies": f"<IsTruncated>false</IsTruncated><AttachedPolicies>{attached}</AttachedPolicies>",
            "ListRolePolicies": f"<IsTruncated>false</IsTruncated><PolicyNames>{names}</PolicyNames>",
        }
        for name, document in role.inline.items():
            read["GetRolePolicy"] = (
                f"<RoleName>{self._name}</RoleName><PolicyName>{name}</PolicyName>"
                f"<PolicyDocument>{quote(document.text)}</PolicyDocument>"
            )
        return {action: xml_response(action, result).body for action, result in read.items()}

    def handle(self, action: str, account_id: str) -> Response:
        """Return the response to a call in a member account."""
        role_state = role_state_of(account_id)
        if action in _READS:
            found = self._reads.get(role_state, {}).get(action)
            if found is None:
                raise ServiceError("NoSuchEntity", 404)
        else:
            found = self._written.get(action) or xml_response(action).body
        return Response(found.replace(_ANY_ID.encode(), account_id.encode()))


_READS = frozenset({"GetRole", "ListAttachedRolePolicies", "ListRolePolicies", "GetRolePolicy"})


def _role(role: MemberRole, name: str, *, tags: bool = True) -> str:
    tagged = "".join(
        f"<member><Key>{key}</Key><Value>{value}</Value></member>" for key, value in sorted(role.tags.items())
    )
    return (
        f"<Role><Path>/</Path><Arn>{role.arn}</Arn><RoleName>{name}</RoleName><RoleId>AROA1234567890EXAMPLE</RoleId>"
        f"<AssumeRolePolicyDocument>{quote(role.trust.text)}</AssumeRolePolicyDocument>"
        "<CreateDate>2026-01-01T00:00:00Z</CreateDate>"
        "<Description>Read-only role that Rolecall keeps in every account of the organization</Description>"
        f"<MaxSessionDuration>{role.max_session}</MaxSessionDuration>"
        + (f"<Tags>{tagged}</Tags><RoleLastUsed/>" if tags else "")
        + "</Role>"
    )
