"""Calls of IAM and STS that one request makes one after another, much faster than over connections of their own."""

from typing import Any
from urllib.parse import urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from ministack import app as ministack

_REGION = "us-east-1"
_URL = "http://localhost/"


async def call_all(calls: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Sign each call with its credentials, serve it as any other request, and return its status and response."""
    return [await _served(**call) for call in calls]


async def _served(
    service: str, credentials: tuple[str, str, str | None], parameters: dict[str, str]
) -> tuple[int, str]:
    body = urlencode(parameters).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded", "Host": "localhost"}
    request = AWSRequest("POST", _URL, headers=form, data=body)
    SigV4Auth(Credentials(*credentials), service, _REGION).add_auth(request)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.items()],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await ministack.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()
