"""STS: anybody may assume anything, and an access key tells in which account it is good."""

import re
from datetime import UTC, datetime, timedelta

from benchmarks.deployment import MANAGEMENT
from benchmarks.stub.answer import Answer, Refusal, xml

_TOKEN = "FwoGZXIvYXdzE" + 60 * "Qx7/+aZk9RtW"  # as long as AWS's
_SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEYabcdefghi"  # noqa: S105 - of no account
_KEY = re.compile(rb"Credential=ASIA([0-9]{12})")


def entered(authorization: bytes) -> str | None:
    """Tell in which member account a call is made; None in the management account."""
    found = _KEY.search(authorization)
    return found[1].decode() if found else None


def answer(action: str, params: dict[str, str]) -> Answer:
    """Answer a call of STS."""
    if action == "GetCallerIdentity":
        return xml(
            action,
            f"<Arn>arn:aws:sts::{MANAGEMENT}:assumed-role/enroll/enroll</Arn><UserId>AROA</UserId><Account>{MANAGEMENT}</Account>",
        )
    if action != "AssumeRole":
        raise Refusal("InvalidAction")
    account_id = params["RoleArn"].split(":")[4]
    until = (datetime.now(UTC) + timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{params['RoleArn'].rpartition('/')[2]}/{params['RoleSessionName']}"
    return xml(
        action,
        f"<Credentials><AccessKeyId>ASIA{account_id}</AccessKeyId><SecretAccessKey>{_SECRET}</SecretAccessKey>"
        f"<SessionToken>{_TOKEN}</SessionToken><Expiration>{until}</Expiration></Credentials>"
        f"<AssumedRoleUser><Arn>arn:aws:sts::{account_id}:assumed-role/{name}</Arn>"
        f"<AssumedRoleId>AROA1234567890EXAMPLE:{name}</AssumedRoleId></AssumedRoleUser>"
        "<PackedPolicySize>40</PackedPolicySize>",
    )
