"""3b. Publish: CPU and memory by the number of rows, and how many policy versions a burst of new accounts takes."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.deployment import ENVIRON, batch
from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.invocation import invoked
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, Seen, StubProcess
from benchmarks.timing import spent
from chalicelib.settings import Settings
from chalicelib.source_policy import capacity

_SIZES = (1, 100, 1_000, 8_000)
_LINEAR = 1.3
_BATCH = 50
_LARGEST = 50_000
_SECONDS = 120.0  # of the function
_CPU, _MEGABYTES = 20, 300


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure runs by size, bursts, and a large organization."""
    return [_sizes(stub, effort), _bursts(stub), _large(stub)]


def _sizes(stub: StubProcess, effort: Effort) -> Measurement:
    """Measure a run that grants all rows, and one with nothing to do."""
    measured = Measurement("3b. publish, by rows: CPU a row")
    granting: dict[int, list[float]] = {size: [] for size in _SIZES}
    idle: dict[int, list[float]] = {size: [] for size in _SIZES}
    for _ in range(effort.repetitions):  # in turn, since the machine may be faster at times
        for size in _SIZES:
            stub.begin(Conditions())
            stage = functions(1)
            stub.put_rows(Kind.NEW, size, in_force=False)
            granting[size].append(spent(stage.publish).cpu / size)
            idle[size].append(spent(stage.publish).cpu / size)
    for size in _SIZES:
        measured.rows.append(
            {
                "rows": size,
                "granting, CPU ms a row": 1000 * median(granting[size]),
                "nothing to do, CPU ms a row": 1000 * median(idle[size]),
                "nothing to do, CPU ms": 1000 * size * median(idle[size]),
            }
        )
    measured.claims = [
        Claim(
            f"{about}, CPU a row at 8,000 / at 1,000",
            median(many / few for many, few in zip(cpu[8_000], cpu[1_000], strict=True)),
            _LINEAR,
        )
        for about, cpu in (("granting", granting), ("nothing to do", idle))
    ]
    return measured


def _bursts(stub: StubProcess) -> Measurement:
    """Count the versions that bursts take: one a changed shard and run, however many accounts and messages there are."""
    measured = Measurement(
        f"3c. bursts of new accounts, enrolled in batches of {_BATCH}: policy versions written",
        notes=["needed: shards that the burst's accounts need", "runs: of publish; SQS FIFO coalesces a burst's messages"],
    )
    room = capacity(Settings.from_env(ENVIRON))
    for size in _SIZES[:-1]:
        for together in (True, False):
            seen, runs = _burst(stub, size, together=together)
            needed = -(-size // room)
            # A shard that a run fills partly is written again by the next.
            at_most = needed if together else sum(
                (min(start + _BATCH, size) - 1) // room - start // room + 1 for start in range(0, size, _BATCH)
            )
            written = seen.policies_written.total()
            measured.rows.append(
                {
                    "accounts": size,
                    "runs": runs,
                    "needed": needed,
                    "written": written,
                    "calls each": seen.calls.total() / size,
                }
            )
            about = "one run after the burst" if together else "a run after each batch"
            measured.claims.append(Claim(f"{size:,} accounts, {about}: versions / shards changed", written / at_most, 1))
    return measured


def _burst(stub: StubProcess, size: int, *, together: bool) -> tuple[Seen, int]:
    stub.begin(Conditions())
    stage = functions(10)
    ids, runs = account_ids(Kind.NEW, size), 0
    for start in range(0, size, _BATCH):
        stage.enroll(batch(ids[start : start + _BATCH]))
        if not together or start + _BATCH >= size:
            stage.publish()
            runs += 1
    return stub.seen(), runs


def _large(stub: StubProcess) -> Measurement:
    """Measure runs over a large organization, each in a process of its own, as Lambda runs them."""
    measured = Measurement(
        f"3d. publish, {_LARGEST:,} rows, scope organization, each run in a process of its own",
        notes=["CPU with the start; memory: the process's most; the function has " f"{_SECONDS:.0f} s"],
    )
    ledger = ENVIRON["LEDGER_TABLE"]
    with _environ(SOURCE_POLICY_SCOPE="organization", THREADS="10"):
        stub.begin(Conditions())
        functions(10)
        stub.put_rows(Kind.NEW, _LARGEST, in_force=False)
        for about in ("grants all rows", "has nothing to do", "grants one more account"):
            if about == "grants one more account":
                stub.put_rows(Kind.NEW, 1, start=_LARGEST, in_force=False)
            before = stub.seen()
            took = invoked("publish", _SECONDS)
            seen = stub.seen()
            calls, pages = seen.calls - before.calls, seen.pages - before.pages
            measured.rows.append(
                {
                    "run": about,
                    "seconds": took["seconds"],
                    "CPU s": took["cpu"],
                    "MB": took["megabytes"],
                    "pages": pages[ledger],
                    "calls": calls.total(),
                    "versions": (seen.policies_written - before.policies_written).total(),
                }
            )
            measured.claims += [
                Claim(f"a run that {about}: CPU s", took["cpu"], _CPU),
                Claim(f"a run that {about}: MB", took["megabytes"], _MEGABYTES),
                Claim(f"a run that {about}: scans of the ledger", (seen.scans - before.scans)[ledger], 1),
            ]
    return measured


@contextmanager
def _environ(**settings: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
