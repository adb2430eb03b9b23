"""STS: every role can be assumed, and an access key contains the account of its session."""

import re
from datetime import UTC, datetime, timedelta

from benchmarks.deployment import MANAGEMENT
from benchmarks.stub.response import Response, ServiceError, xml_response

_TOKEN = "FwoGZXIvYXdzE" + 60 * "Qx7/+aZk9RtW"  # as long as those of AWS
_SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEYabcdefghi"  # noqa: S105 - of no account
_KEY = re.compile(rb"Credential=ASIA([0-9]{12})")


def member_account(authorization: bytes) -> str | None:
    """Return the member account that a call is signed for; None for the management account."""
    found = _KEY.search(authorization)
    return found[1].decode() if found else None


def handle(action: str, params: dict[str, str]) -> Response:
    """Return the response to a call of STS."""
    if action == "GetCallerIdentity":
        return xml_response(
            action,
            f"<Arn>arn:aws:sts::{MANAGEMENT}:assumed-role/enroll/enroll</Arn><UserId>AROA</UserId><Account>{MANAGEMENT}</Account>",
        )
    if action != "AssumeRole":
        raise ServiceError("InvalidAction")
    account_id = params["RoleArn"].split(":")[4]
    until = (datetime.now(UTC) + timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{params['RoleArn'].rpartition('/')[2]}/{params['RoleSessionName']}"
    return xml_response(
        action,
        f"<Credentials><AccessKeyId>ASIA{account_id}</AccessKeyId><SecretAccessKey>{_SECRET}</SecretAccessKey>"
        f"<SessionToken>{_TOKEN}</SessionToken><Expiration>{until}</Expiration></Credentials>"
        f"<AssumedRoleUser><Arn>arn:aws:sts::{account_id}:assumed-role/{name}</Arn>"
        f"<AssumedRoleId>AROA1234567890EXAMPLE:{name}</AssumedRoleId></AssumedRoleUser>"
        "<PackedPolicySize>40</PackedPolicySize>",
    )
