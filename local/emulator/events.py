"""Events of Organizations and of API calls, as CloudTrail delivers them to the management account's bus."""

import json
import time
from typing import Any

from emulator.switches import SWITCHES
from ministack.core.responses import request_scope
from ministack.services import eventbridge

_MASKED = {"accountName", "email", "name"}


def timestamp(seconds: float) -> str:
    """Format a time as Organizations does in its events: `Mar 5, 2026 8:26:54 AM`."""
    at = time.gmtime(seconds)
    hour = at.tm_hour % 12 or 12
    return time.strftime(f"%b {at.tm_mday}, %Y {hour}:%M:%S %p", at)


def as_recorded(value: Any, key: str = "") -> Any:
    """Convert a request or response to CloudTrail's form: camel-case names, times as text, personal names masked."""
    if isinstance(value, dict):
        return {(lower := name[:1].lower() + name[1:]): as_recorded(item, lower) for name, item in value.items()}
    if isinstance(value, list):
        return [as_recorded(item) for item in value]
    if key in _MASKED:
        return "****"
    return timestamp(value) if key.endswith("Timestamp") else value


def api_call(management: str, caller: str, name: str, request: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Emit the event of an API call, which failed if its outcome contains an errorCode."""
    detail = {
        "userIdentity": {"type": "AssumedRole", "accountId": caller},
        "eventName": name,
        "eventType": "AwsApiCall",
        "requestParameters": as_recorded(request) or None,
        "responseElements": None,
    }
    _emit(management, "AWS API Call via CloudTrail", detail | outcome)


def service_event(management: str, name: str, details: dict[str, Any]) -> None:
    """Emit the event with which Organizations reports the result of an asynchronous operation."""
    detail = {
        "userIdentity": {"accountId": management, "invokedBy": "AWS Internal"},
        "eventName": name,
        "eventType": "AwsServiceEvent",
        "requestParameters": None,
        "responseElements": None,
        "serviceEventDetails": details,
    }
    _emit(management, "AWS Service Event via CloudTrail", detail)


def deliver(management: str, source: str, detail: dict[str, Any]) -> None:
    """Deliver the event of an API call of any service."""
    service = source.removeprefix("aws.")
    _put(management, source, "AWS API Call via CloudTrail", {"eventSource": f"{service}.amazonaws.com"} | detail)


def _emit(management: str, detail_type: str, detail: dict[str, Any]) -> None:
    if not SWITCHES.drop_events:
        _put(management, "aws.organizations", detail_type, {"eventSource": "organizations.amazonaws.com"} | detail)


def _put(management: str, source: str, detail_type: str, detail: dict[str, Any]) -> None:
    common = {
        "eventVersion": "1.08",
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "awsRegion": "us-east-1",
        "sourceIPAddress": "AWS Internal",
        "userAgent": "AWS Internal",
        "readOnly": False,
        "managementEvent": True,
        "recipientAccountId": management,
        "eventCategory": "Management",
    }
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(common | detail)}
    with request_scope(management, "us-east-1"):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
