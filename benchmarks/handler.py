"""The enroll function as Lambda calls it: handler, logs, metrics and all, with what it writes thrown away."""

import contextlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from benchmarks.deployment import Context

if TYPE_CHECKING:
    from types import ModuleType

Handler: TypeAlias = Callable[..., None]


def enroll_function(threads: int) -> Handler:
    """Make the function with so many threads; the one that was made before is of no more use."""
    os.environ["THREADS"] = str(threads)
    app = _app()
    app.application.cache_clear()

    def handle(event: dict[str, Any], *, deliveries: int = 1) -> None:
        """Deliver a batch, and what is handed back again, as the queue does (but for its delays), so many times at most."""
        records = event["Records"]
        for _ in range(deliveries):
            with contextlib.redirect_stdout(_nowhere()):
                failures = app.enroll({"Records": records}, Context())["batchItemFailures"]
            again = {failure["itemIdentifier"] for failure in failures}
            records = [record for record in records if record["messageId"] in again]
            if not records:
                return
        message = f"{len(records)} accounts were not enrolled, {records[0]['messageId']} first"
        raise RuntimeError(message)

    return handle


@cache
def _app() -> "ModuleType":
    with contextlib.redirect_stdout(_nowhere()):  # which the logger keeps
        import app  # noqa: PLC0415

    return app


@cache
def _nowhere() -> IO[str]:
    return Path(os.devnull).open("w")
