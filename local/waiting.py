"""Waiting for what another process brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.05, 0.4, 1.4  # what is asked has work to do, on the same few cores


def until(found: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """Ask again and again until there is an answer that is not None or False; a TimeoutError says what never came."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        answer = found()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
