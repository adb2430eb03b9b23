"""A client of the stub's process: starts, configures and reads it."""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.stub.role_states import RoleState

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The latency in seconds, the throttling, and the organization.

    Every `throttle_every`th call is throttled, none with 0.
    """

    latency: float = 0.0
    throttle_every: int = 0
    role_state: RoleState = RoleState.NEW
    accounts: int = 0
    listing_rate: float = 0.0
    listing_burst: float = 0.0


@dataclass(frozen=True)
class Counts:
    """Counts of calls since the last reset."""

    calls: Counter[str]
    throttled: Counter[str]
    policies_written: Counter[str]
    scans: Counter[str]
    pages: Counter[str]


@dataclass(frozen=True)
class StubProcess:
    """A running stub."""

    endpoint: str

    def reset(self, conditions: Conditions) -> None:
        """Empty the tables, reset the counts, and set the conditions."""
        self._control(json.dumps(asdict(conditions)).encode())

    def set_latency(self, seconds: float) -> None:
        """Change only the latency."""
        self._control(json.dumps({"latency": seconds}).encode())

    def throttle(self, every: int) -> None:
        """Throttle every nth call from now on, none with 0."""
        self._control(json.dumps({"throttle_every": every}).encode())

    def put_rows(self, role_state: RoleState, count: int, *, start: int = 0, in_force: bool = True) -> None:
        """Put ledger rows of accounts that were enrolled, and if `in_force` published, long ago."""
        rows = {"role_state": role_state, "start": start, "count": count, "in_force": in_force}
        self._control(json.dumps({"rows": rows}).encode())

    def counts(self) -> Counts:
        """Return the counts."""
        return Counts(**{name: Counter(counts) for name, counts in self._control(b"").items()})

    def _control(self, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.endpoint}/_stub", data=body, method="POST")  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return dict(json.load(response))


@contextmanager
def running() -> Iterator[StubProcess]:
    """Run a stub until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stub"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            message = "the stub has no pipes"
            raise RuntimeError(message)
        try:
            yield StubProcess(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.stdin.close()
            process.wait(timeout=10)
