"""Waiting for what another process brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.05


def until(found: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """Ask again and again until there is an answer that is not None or False; a TimeoutError says what never came."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(_PAUSE)
