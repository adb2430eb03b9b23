"""ARNs in any partition, and ids of accounts, organizations and organizational units."""

import re
from typing import Literal, NamedTuple, NewType

AccountId = NewType("AccountId", str)

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_ORGANIZATION_ID = re.compile(r"o-[0-9a-z]{10,32}")
_OU_ID = re.compile(r"ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")
_PRINCIPAL = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>[0-9]{12}):"
    r"(?P<kind>root|role|user)(?P<path>/(?:[\x21-\x7e]+/)?)?(?P<name>[\w+=,.@*-]*)",
    re.ASCII,
)
_RESERVED_SSO = re.compile(r"/aws-reserved/sso\.amazonaws\.com/(?:[a-z0-9-]+/)?AWSReservedSSO_[\w+=,.@-]+_\*", re.ASCII)


def is_account_id(value: object) -> bool:
    """Whether a value is a string of twelve digits."""
    return isinstance(value, str) and _ACCOUNT_ID.fullmatch(value) is not None


def is_organization_id(value: str) -> bool:
    """Whether a value is the id of an organization."""
    return _ORGANIZATION_ID.fullmatch(value) is not None


def is_ou_id(value: str) -> bool:
    """Whether a value is the id of an organizational unit."""
    return _OU_ID.fullmatch(value) is not None


def role_arn(partition: str, account_id: str, name: str) -> str:
    """Build the ARN of a role without a path."""
    return f"arn:{partition}:iam::{account_id}:role/{name}"


def policy_arn(partition: str, account_id: str, name: str) -> str:
    """Build the ARN of a customer-managed policy without a path."""
    return f"arn:{partition}:iam::{account_id}:policy/{name}"


def root_arn(partition: str, account_id: str) -> str:
    """Build the ARN of an account's root, which as a principal means the whole account."""
    return f"arn:{partition}:iam::{account_id}:root"


class Principal(NamedTuple):
    """A role or user that may assume the member roles, or a whole account (`root`)."""

    arn: str
    partition: str
    account_id: AccountId
    kind: Literal["role", "user", "root"]
    path: str
    name: str

    @property
    def is_reserved(self) -> bool:
        """Whether IAM Identity Center owns it, so that no other policy can be attached to it."""
        return self.path.startswith("/aws-reserved/")


def parse_principal(arn: str) -> Principal:
    """Parse the ARN of a source principal; raise ValueError with what is wrong with it."""
    if re.match(r"arn:[^:]*:sts::", arn):
        message = "is a session's ARN; name the role that the session is of (arn:…:iam::…:role/…)"
        raise ValueError(message)
    found = _PRINCIPAL.fullmatch(arn)
    if found is None or (found["kind"] == "root") != (found["path"] is None) or (not found["path"] and found["name"]):
        message = "is not the ARN of an IAM role, a user or an account's root"
        raise ValueError(message)
    path, name = found["path"] or "", found["name"]
    # A path may hold "?" and "$", which mean something else in the conditions that the ARN is written in.
    if re.search(r"[*?$]", arn) and not _RESERVED_SSO.fullmatch(path + name):
        message = "holds a wildcard, which only the hash at the end of an AWSReservedSSO role's name may be"
        raise ValueError(message)
    if found["kind"] != "root" and not name:
        message = "has no name of a role or user"
        raise ValueError(message)
    kind: Literal["role", "user", "root"] = "root"
    if found["kind"] != "root":
        kind = "role" if found["kind"] == "role" else "user"
    return Principal(arn, found["partition"], AccountId(found["account"]), kind, path, name)
