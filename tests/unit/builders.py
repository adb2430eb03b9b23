"""Settings as a deployment has them, changed by what a test is about."""

from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.settings import Settings

PARTITIONS = ("aws", "aws-us-gov", "aws-cn")
MANAGEMENT = AccountId("999999999999")
SOURCE = AccountId("111122223333")
MEMBER = AccountId("444455556666")

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
