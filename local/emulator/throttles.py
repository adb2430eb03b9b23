"""Throttling and slow responses for calls of the functions."""

import asyncio
import itertools
import sys
from collections.abc import Callable
from typing import Any

from emulator.switches import SWITCHES
from ministack.core.responses import error_response_json
from ministack.services import iam, organizations, sts

_calls = itertools.count(1)


def patch() -> None:
    """Wrap the services that throttle in large organizations."""
    iam.handle_request = _throttled(iam.handle_request, "iam", lambda: iam._error(400, "Throttling", "Rate exceeded"))
    sts.handle_request = _throttled(
        sts.handle_request, "sts", lambda: sts._error(400, "Throttling", "Rate exceeded", ns="sts")
    )
    organizations.handle_request = _throttled(
        organizations.handle_request,
        "organizations",
        lambda: error_response_json("TooManyRequestsException", "You have sent too many requests.", 400),
    )


def _throttled(handle_request: Callable[..., Any], service: str, error: Callable[[], Any]) -> Callable[..., Any]:
    """Throttle and log every nth call of the app, which is recognized by its user agent."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        from_app = "rolecall" in headers.get("user-agent", "")
        if SWITCHES.throttle_every and from_app and next(_calls) % SWITCHES.throttle_every == 0:
            print(f"throttled {service}", file=sys.stderr, flush=True)
            return error()
        if from_app and service == "iam":
            await asyncio.sleep(SWITCHES.iam_seconds)
        return await handle_request(method, path, headers, body, query)

    return handle
