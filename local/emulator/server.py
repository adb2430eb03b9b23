"""Patched ministack and the controls of tests, behind one listener."""

import asyncio
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from emulator import (
    alarms,
    calls,
    cloudformation,
    conditions,
    dynamodb,
    events,
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
    stack_sets,
    streams,
    sts,
    throttles,
)
from emulator.reset import reset, reset_iam
from emulator.switches import SWITCHES
from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config
from ministack import app as ministack
from ministack.core import responses

_CONTROL = "/_organization/"
_KEEP_ALIVE_SECONDS = 3_600

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


_PATCHED = (
    *(resources, dynamodb, conditions, limits, iam, sts, sqs, move_tasks, organizations),
    *(functions, streams, function_logs, schedules, metrics, alarms, sns, cloudformation, stack_sets, throttles),
)


def _switch(**values: Any) -> None:
    for name, value in values.items():
        setattr(SWITCHES, name, value)
    organizations.shorten_ready_delays()


_CONTROLS: dict[str, Callable[..., object]] = {
    "reset": reset,
    "reset_iam": reset_iam,
    "call_all": calls.call_all,
    "switch": _switch,
    "set_account_state": organizations.set_account_state,
    "age_account": organizations.age_account,
    "delays": sqs.delays,
    "skip_delays": sqs.skip_delays,
    "age_metrics": metrics.age_metrics,
    "fire": schedules.fire,
    "kill": functions.kill,
    "set_stack_status": cloudformation.set_stack_status,
    "deliver_event": functools.partial(events.deliver, organizations.MANAGEMENT),
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
    status, response = 200, ""
    try:
        control = _CONTROLS[scope["path"].removeprefix(_CONTROL)]
        is_coroutine, values = inspect.iscoroutinefunction(control), json.loads(body)
        result = await (control(**values) if is_coroutine else asyncio.to_thread(control, **values))
        response = json.dumps(result)
    except (KeyError, ValueError) as error:
        status, response = 400, repr(error)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": response.encode()})


async def serve(listener: int) -> None:
    """Serve on a bound socket until this process receives a signal to stop."""
    for area in _PATCHED:
        area.patch()
    # ministack loads a service's model for the content type of every response.
    responses._service_model = functools.cache(responses._service_model)
    config = Config()
    config.bind = [f"fd://{listener}"]
    config.loglevel = "WARNING"
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS  # A client must not use a connection while it is closed.
    await serve_asgi(_application, config)
