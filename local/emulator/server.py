"""Mended ministack, and the switches that tests turn, behind one listener."""

import functools
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from emulator import (
    alarms,
    cloudformation,
    conditions,
    dynamodb,
    function_logs,
    functions,
    iam,
    limits,
    metrics,
    move_tasks,
    organizations,
    resources,
    schedules,
    sns,
    sqs,
    sts,
    throttles,
)
from emulator.switches import SWITCHES
from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config
from ministack import app as ministack
from ministack.core import responses

_CONTROL = "/_organization/"
_IDLE = 3_600

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


_AREAS = (
    *(resources, dynamodb, conditions, limits, iam, sts, sqs, move_tasks, organizations),
    *(functions, function_logs, schedules, metrics, alarms, sns, cloudformation, throttles),
)


def _switch(**values: Any) -> None:
    for name, value in values.items():
        setattr(SWITCHES, name, value)
    organizations.hasten()


_CONTROLS: dict[str, Callable[..., None]] = {
    "switch": _switch,
    "set_account_state": organizations.set_account_state,
    "age_account": organizations.age_account,
    "skip_delays": sqs.skip_delays,
    "age_metrics": metrics.age_metrics,
    "fire": schedules.fire,
    "kill": functions.kill,
}


async def _application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http" or not scope["path"].startswith(_CONTROL):
        await ministack.app(scope, receive, send)
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    status, answer = 200, ""
    try:
        _CONTROLS[scope["path"].removeprefix(_CONTROL)](**json.loads(body))
    except (KeyError, ValueError) as error:
        status, answer = 400, repr(error)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})


async def serve(listener: int) -> None:
    """Serve on a bound socket until this process is told to stop."""
    for area in _AREAS:
        area.mend()
    # It reads a service's model for the content type of every answer.
    responses._service_model = functools.cache(responses._service_model)
    config = Config()
    config.bind = [f"fd://{listener}"]
    config.loglevel = "WARNING"
    config.keep_alive_timeout = _IDLE  # No client meets a connection that is being closed.
    await serve_asgi(_application, config)
