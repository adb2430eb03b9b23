"""IAM in the member accounts: each has the member role that its kind says, whatever is done to it."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from benchmarks.stub.answer import Answer, Refusal, xml
from benchmarks.stub.kinds import Kind, kind_of
from chalicelib.documents import Document
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.settings import Settings

_ANY_ID = "000000000000"  # where an account's own id goes
_STRAY = "arn:aws:iam::aws:policy/AdministratorAccess"
_ELSEWHERE = Document.of({"Version": "2012-10-17", "Statement": []})


class MemberAccounts:
    """Answers a role's reads and takes its writes."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings that say what an unchanged role is."""
        desired = desired_role(settings, _ANY_ID)
        drifted = replace(desired, trust=_ELSEWHERE, attached=desired.attached | {_STRAY})
        self._name = settings.member_role_name
        self._reads = {Kind.UNCHANGED: self._answers(desired), Kind.DRIFTED: self._answers(drifted)}
        self._created = xml("CreateRole", _role(desired, self._name, tags=False)).body

    def _answers(self, role: MemberRole) -> dict[str, bytes]:
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
        return {action: xml(action, result).body for action, result in read.items()}

    def answer(self, action: str, account_id: str) -> Answer:
        """Answer a call in a member account."""
        kind = kind_of(account_id)
        if action in _READS:
            found = self._reads.get(kind, {}).get(action)
            if found is None:
                raise Refusal("NoSuchEntity", 404)
        else:
            found = self._created if action == "CreateRole" else _WRITTEN(action)
        return Answer(found.replace(_ANY_ID.encode(), account_id.encode()))


_READS = frozenset({"GetRole", "ListAttachedRolePolicies", "ListRolePolicies", "GetRolePolicy"})
_WRITTEN: Callable[[str], bytes] = lambda action: xml(action).body  # noqa: E731


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
