"""Throttling and slow answers: the functions' own calls may be refused now and then, and IAM may take its time."""

import asyncio
import itertools
import sys
from collections.abc import Callable
from typing import Any

from emulator.switches import SWITCHES
from ministack.core.responses import error_response_json
from ministack.services import iam, organizations, sts

_calls = itertools.count(1)


def mend() -> None:
    """Put the refusals before the services that a busy organization is throttled by."""
    iam.handle_request = _throttled(iam.handle_request, "iam", lambda: iam._error(400, "Throttling", "Rate exceeded"))
    sts.handle_request = _throttled(
        sts.handle_request, "sts", lambda: sts._error(400, "Throttling", "Rate exceeded", ns="sts")
    )
    organizations.handle_request = _throttled(
        organizations.handle_request,
        "organizations",
        lambda: error_response_json("TooManyRequestsException", "You have sent too many requests.", 400),
    )


def _throttled(handle_request: Callable[..., Any], service: str, refusal: Callable[[], Any]) -> Callable[..., Any]:
    """Refuse every so-manieth call of the app, which its clients tell themselves by, and log that."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        ours = "rolecall" in headers.get("user-agent", "")
        if SWITCHES.throttle_every and ours and next(_calls) % SWITCHES.throttle_every == 0:
            print(f"throttled {service}", file=sys.stderr, flush=True)
            return refusal()
        if ours and service == "iam":
            await asyncio.sleep(SWITCHES.iam_seconds)
        return await handle_request(method, path, headers, body, query)

    return handle
