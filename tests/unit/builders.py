"""Settings of a stage, account ids and an example value of every optional setting."""

from typing import Any

from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.documents import Document
from chalicelib.settings import AccountTag, Scope, Settings

PARTITIONS = ("aws", "aws-us-gov", "aws-cn", "aws-eusc")
MANAGEMENT = AccountId("999999999999")
SOURCE = AccountId("111122223333")
MEMBER = AccountId("444455556666")
READER, FORMER = (f"arn:aws:iam::{SOURCE}:role/{name}" for name in ("Reader", "Former"))
ORGANIZATION_ID = "o-fd150fe903"

EXTRA = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"macie2:GetMacieSession","Resource":"*"}}'

EXAMPLES: dict[str, tuple[str, Any]] = {
    "MEMBER_ROLE_NAME": ("Reader@Org", "Reader@Org"),
    "MEMBER_ROLE_POLICY_ARNS": (
        "arn:{partition}:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/a/B",
        ("arn:{partition}:iam::aws:policy/SecurityAudit", "arn:{partition}:iam::{account_id}:policy/a/B"),
    ),
    "MEMBER_ROLE_POLICIES": (f'{{"Extra":{EXTRA}}}', {"Extra": Document(EXTRA)}),
    "DENY_DATA_READS": ("false", False),
    "DENY_DATA_READS_EXCEPT": (
        "s3:GetObject,ssm:GetParameter",
        frozenset({"s3:GetObject", "ssm:GetParameter"}),
    ),
    "MEMBER_ROLE_MAX_SESSION": ("43200", 43200),
    "PERMISSIONS_BOUNDARY_ARN": (
        "arn:{partition}:iam::{account_id}:policy/P",
        "arn:{partition}:iam::{account_id}:policy/P",
    ),
    "EXTERNAL_ID": ("a:b/c", "a:b/c"),
    "MEMBER_ROLE_TAGS": ("team=platform,cost centre=a=b", {"team": "platform", "cost centre": "a=b"}),
    "ATTACH_SOURCE_POLICY": ("false", False),
    "SOURCE_POLICY_NAME": ("Access", "Access"),
    "SOURCE_POLICY_SCOPE": ("organization", Scope.ORGANIZATION),
    "ACCESS_ROLE_NAMES": ("One,Two,One", ("One", "Two")),
    "INCLUDE_OU_IDS": ("ou-ab12-11111111", frozenset({"ou-ab12-11111111"})),
    "EXCLUDE_OU_IDS": ("ou-ab12-22222222,ou-ab12-33333333", frozenset({"ou-ab12-22222222", "ou-ab12-33333333"})),
    "INCLUDE_TAGS": ("env=prod,team=*", frozenset({AccountTag("env", "prod"), AccountTag("team", None)})),
    "EXCLUDE_TAGS": ("aws:note=a=b,env=", frozenset({AccountTag("aws:note", "a=b"), AccountTag("env", "")})),
    "EXCLUDE_ACCOUNT_IDS": (MEMBER, frozenset({MEMBER})),
    "INCLUDE_MANAGEMENT_ACCOUNT": ("false", False),
    "ADOPT_EXISTING_ROLES": (f"{MEMBER},{MANAGEMENT},{MEMBER}", frozenset({MEMBER, MANAGEMENT})),
    "READY_GRACE_SECONDS": ("0", 0),
    "MAX_RETIRED_PERCENT": ("100", 100),
    "ROLLOUT_PERCENT": ("1", 1),
    "THREADS": ("64", 64),
}
"""For each optional variable a value other than its default, and what Settings reads from it."""

account_ids = st.integers(0, 10**12 - 1).map(lambda number: AccountId(f"{number:012}"))


def environ(partition: str = "aws", **changes: str) -> dict[str, str]:
    return {
        "STAGE": "dev",
        "PARTITION": partition,
        "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
        "SOURCE_PRINCIPAL_ARNS": f"arn:{partition}:iam::{SOURCE}:role/Reader",
        **changes,
    }


def settings(partition: str = "aws", **changes: str) -> Settings:
    return Settings.from_env(environ(partition, **changes))
