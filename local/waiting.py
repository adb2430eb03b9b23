"""Polling until another process has reached a state."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Polls become rarer, since the polled server runs on the same few cores.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS, _GROWTH = 0.05, 0.4, 1.4


def wait_until(poll: Callable[[], T | None], condition: str, seconds: float = 30) -> T:
    """Poll until the result is neither None nor False, and return it. Raise TimeoutError after some seconds."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        result = poll()
        if result is not None and result is not False:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out after {seconds:g} seconds waiting until {condition}")
        time.sleep(pause)
        pause = min(pause * _GROWTH, _MAX_PAUSE_SECONDS)
