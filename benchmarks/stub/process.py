"""The stub's process, as the benchmarks start, set and read it."""

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

from benchmarks.stub.kinds import Kind

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the stub should be: seconds to each answer, which calls are throttled, and what there is."""

    latency: float = 0.0
    throttle_every: int = 0
    kind: Kind = Kind.NEW
    accounts: int = 0
    listing_rate: float = 0.0
    listing_burst: float = 0.0


@dataclass(frozen=True)
class Seen:
    """What the stub has answered since its conditions were set."""

    calls: Counter[str]
    throttled: Counter[str]
    policies_written: Counter[str]
    scans: Counter[str]
    pages: Counter[str]


@dataclass(frozen=True)
class StubProcess:
    """A stub that is running."""

    endpoint: str

    def begin(self, conditions: Conditions) -> None:
        """Begin anew, with nothing in the tables and nothing counted."""
        self._control(json.dumps(asdict(conditions)).encode())

    def latency(self, seconds: float) -> None:
        """Change the latency alone."""
        self._control(json.dumps({"latency": seconds}).encode())

    def throttle(self, every: int) -> None:
        """Throttle each so-manieth call from now on, none with 0."""
        self._control(json.dumps({"throttle_every": every}).encode())

    def put_rows(self, kind: Kind, count: int, *, start: int = 0, in_force: bool = True) -> None:
        """Put the rows of accounts that were enrolled, and if `in_force`, published, long ago."""
        rows = {"kind": kind, "start": start, "count": count, "in_force": in_force}
        self._control(json.dumps({"rows": rows}).encode())

    def seen(self) -> Seen:
        """Read the counts."""
        return Seen(**{name: Counter(counts) for name, counts in self._control(b"").items()})

    def _control(self, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.endpoint}/_stub", data=body, method="POST")  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.load(answer))


@contextmanager
def running() -> Iterator[StubProcess]:
    """Run a stub for the length of the block."""
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
