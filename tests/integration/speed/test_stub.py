import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.stub.process import Conditions, running
from benchmarks.stub.role_states import RoleState, account_id

ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


def test_stub_follows_its_conditions_and_counts_calls() -> None:
    with running() as stub:
        stub.reset(Conditions(role_state=RoleState.DRIFTED, accounts=45, throttle_every=4))
        session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name="us-east-1")
        organizations = session.client("organizations", endpoint_url=stub.endpoint, config=ONCE)

        pages = list(organizations.get_paginator("list_accounts").paginate())
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            organizations.describe_account(AccountId=account_id(RoleState.DRIFTED, 0))

        assert [len(page["Accounts"]) for page in pages] == [20, 20, 5]
        assert pages[2]["Accounts"][-1]["Id"] == account_id(RoleState.DRIFTED, 44)
        counts = stub.counts()
        assert dict(counts.calls) == {"organizations:ListAccounts": 3, "organizations:DescribeAccount": 1}
        assert dict(counts.throttled) == {"organizations:DescribeAccount": 1}
