"""3b. Publish: CPU and memory by the number of rows, and how many policy versions a burst of new accounts takes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from benchmarks.contestants import bare_marks
from benchmarks.deployment import ENVIRON, batch
from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.invocation import invoked
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, Seen, StubProcess
from benchmarks.timing import spent
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity

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
    """Measure a run that grants all rows, one with nothing to do, and the bare calls that mark the rows."""
    measured = Measurement(
        "3b. publish, by rows, one thread: CPU a row",
        notes=["marks: one UpdateItem a granted row, by a bare client"],
    )
    spent_by: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in _SIZES} for name in ("granting", "nothing to do", "marks")
    }
    for _ in range(effort.repetitions):  # in turn, since the machine may be faster at times
        for size in _SIZES:
            stub.begin(Conditions())
            stage, marks, ids = functions(1), bare_marks(1), account_ids(Kind.NEW, size)
            stub.put_rows(Kind.NEW, size, in_force=False)
            marks(ids[:1])  # so that its connection is open
            for name, run in (
                ("granting", stage.publish),
                ("nothing to do", stage.publish),
                ("marks", partial(marks, ids)),
            ):
                spent_by[name][size].append(spent(run).cpu / size)
    for size in _SIZES:
        cpu = {name: 1000 * median(runs[size]) for name, runs in spent_by.items()}
        measured.rows.append({"rows": size, **{f"{name}, CPU ms": each for name, each in cpu.items()}})
    for name in ("granting", "nothing to do"):
        growth = [many / few for many, few in zip(spent_by[name][8_000], spent_by[name][1_000], strict=True)]
        measured.claims.append(Claim(f"{name}: CPU a row at 8,000 / at 1,000", median(growth), _LINEAR))
    of_marks = [all_ / marks for all_, marks in zip(spent_by["granting"][8_000], spent_by["marks"][8_000], strict=True)]
    measured.claims.append(Claim("granting 8,000 rows: CPU / bare marks", median(of_marks), _LINEAR))
    return measured


def _bursts(stub: StubProcess) -> Measurement:
    """Count the versions that bursts take: one a changed shard and run, however many accounts and messages there are."""
    measured = Measurement(
        f"3c. bursts of new accounts, enrolled in batches of {_BATCH}: policy versions written",
        notes=[
            "needed: shards that the burst's accounts need",
            "runs: of publish; SQS FIFO coalesces a burst's messages",
        ],
    )
    room = capacity(Settings.from_env(ENVIRON))
    for size in _SIZES[:-1]:
        for together in (True, False):
            seen, runs = _burst(stub, size, together=together)
            needed = -(-size // room)
            # A shard that a run fills partly is written again by the next.
            at_most = (
                needed
                if together
                else sum(
                    (min(start + _BATCH, size) - 1) // room - start // room + 1 for start in range(0, size, _BATCH)
                )
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
            measured.claims.append(
                Claim(f"{size:,} accounts, {about}: versions / shards changed", written / at_most, 1)
            )
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
        notes=[f"each run has {_SECONDS:.0f} s, as the function; MB: the process's most"],
    )
    with _environ(SOURCE_POLICY_SCOPE="organization", THREADS="10"):
        stub.begin(Conditions())
        functions(10)
        stub.put_rows(Kind.NEW, _LARGEST, in_force=False)
        for about in ("grants all rows", "has nothing to do", "grants one more account"):
            if about == "grants one more account":
                stub.put_rows(Kind.NEW, 1, start=_LARGEST, in_force=False)
            _run(stub, about, measured)
    return measured


def _run(stub: StubProcess, about: str, measured: Measurement) -> None:
    """Run publish until it is finished; a run that ends with the function's time is followed by another."""
    ledger = ENVIRON["LEDGER_TABLE"]
    runs, cpu, seconds, megabytes, unfinished = 0, 0.0, 0.0, 0.0, 1.0
    before = stub.seen()
    while unfinished:
        took = invoked("publish", _SECONDS)
        runs, cpu, seconds, unfinished = runs + 1, cpu + took["cpu"], seconds + took["seconds"], took["unfinished"]
        megabytes = max(megabytes, took["megabytes"])
    seen = stub.seen()
    measured.rows.append(
        {
            "publish": about,
            "runs": runs,
            "seconds": seconds,
            "CPU s": cpu,
            "MB": megabytes,
            "pages a run": (seen.pages - before.pages)[ledger] / runs,
            "calls": (seen.calls - before.calls).total(),
            "versions": (seen.policies_written - before.policies_written).total(),
        }
    )
    if about != "grants all rows":  # whose CPU is that of an UpdateItem a row
        measured.claims.append(Claim(f"publish that {about}: CPU s", cpu, _CPU))
    measured.claims += [
        Claim(f"publish that {about}: MB", megabytes, _MEGABYTES),
        Claim(f"publish that {about}: scans of the ledger a run", (seen.scans - before.scans)[ledger] / runs, 1),
    ]


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
