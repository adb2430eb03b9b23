"""The enroll and publish functions as Lambda invokes them, with logs and metrics; their output is discarded."""

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.deployment import Context, publish_event

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True)
class Functions:
    """The functions of one stage."""

    _app: "ModuleType"

    def enroll(self, event: dict[str, Any], *, deliveries: int = 1) -> None:
        """Deliver a batch, and deliver returned messages again without a delay, at most `deliveries` times in all."""
        records = event["Records"]
        for _ in range(deliveries):
            with contextlib.redirect_stdout(_devnull()):
                failures = self._app.enroll({"Records": records}, Context())["batchItemFailures"]
            again = {failure["itemIdentifier"] for failure in failures}
            records = [record for record in records if record["messageId"] in again]
            if not records:
                return
        message = f"{len(records)} accounts were not enrolled, {records[0]['messageId']} first"
        raise RuntimeError(message)

    def publish(self) -> None:
        """Run publish once; raise RuntimeError if it doesn't finish."""
        with contextlib.redirect_stdout(_devnull()):
            unfinished = self._app.publish(publish_event(), Context())["batchItemFailures"]
        if unfinished:
            message = "publish did not finish"
            raise RuntimeError(message)


def functions(threads: int) -> Functions:
    """Return the functions of a stage with this number of threads, after a first run of publish, as `rolecall deploy` does it."""
    os.environ["THREADS"] = str(threads)
    app = _app()
    app.application.cache_clear()
    deployed = Functions(app)
    deployed.publish()
    return deployed


@cache
def _app() -> "ModuleType":
    with contextlib.redirect_stdout(_devnull()):  # the logger keeps this stream
        import app  # noqa: PLC0415

    return app


@cache
def _devnull() -> IO[str]:
    return Path(os.devnull).open("w")
