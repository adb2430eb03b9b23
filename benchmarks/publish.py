"""3b to 3d. publish: CPU and memory by the number of rows, and policy versions written for a burst of new accounts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from benchmarks.baselines import bare_marks
from benchmarks.deployment import ENVIRON, batch
from benchmarks.handler import functions
from benchmarks.invocation import invoke_in_subprocess
from benchmarks.profiles import Profile
from benchmarks.report import Claim, Measurement
from benchmarks.stub.process import Conditions, Counts, StubProcess
from benchmarks.stub.role_states import RoleState, account_ids
from benchmarks.timing import timed
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity

_SIZES = (1, 100, 1_000, 8_000)
_MAX_GROWTH = 1.3
_BATCH = 50
_LARGEST = 50_000
_TIMEOUT_SECONDS = 120.0
_MAX_CPU_SECONDS, _MAX_MEGABYTES = 20, 300


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:
    """Measure runs by number of rows, bursts, and a large organization."""
    return [_sizes(stub, profile), _bursts(stub), _large(stub)]


def _sizes(stub: StubProcess, profile: Profile) -> Measurement:
    """Measure a run that grants all rows, one with nothing to do, and the bare calls that set `in_force_since`."""
    measured = Measurement(
        "3b. publish, by rows, one thread: CPU a row",
        notes=["marks: one UpdateItem a granted row, by a bare client"],
    )
    cpu_by: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in _SIZES} for name in ("granting", "nothing to do", "marks")
    }
    for _ in range(profile.repetitions):  # in turn: the machine's speed varies
        for size in _SIZES:
            stub.reset(Conditions())
            stage, marks, ids = functions(1), bare_marks(1), account_ids(RoleState.NEW, size)
            stub.put_rows(RoleState.NEW, size, in_force=False)
            marks(ids[:1])  # opens the connection
            for name, run in (
                ("granting", stage.publish),
                ("nothing to do", stage.publish),
                ("marks", partial(marks, ids)),
            ):
                cpu_by[name][size].append(timed(run).cpu / size)
    for size in _SIZES:
        cpu = {name: 1000 * median(runs[size]) for name, runs in cpu_by.items()}
        measured.rows.append({"rows": size, **{f"{name}, CPU ms": each for name, each in cpu.items()}})
    for name in ("granting", "nothing to do"):
        growth = [many / few for many, few in zip(cpu_by[name][8_000], cpu_by[name][1_000], strict=True)]
        measured.claims.append(Claim(f"{name}: CPU a row at 8,000 / at 1,000", median(growth), _MAX_GROWTH))
    of_marks = [all_ / marks for all_, marks in zip(cpu_by["granting"][8_000], cpu_by["marks"][8_000], strict=True)]
    measured.claims.append(Claim("granting 8,000 rows: CPU / bare marks", median(of_marks), _MAX_GROWTH))
    return measured


def _bursts(stub: StubProcess) -> Measurement:
    """Count the policy versions of bursts: one for each changed shard and run, for any number of accounts and messages."""
    measured = Measurement(
        f"3c. bursts of new accounts, enrolled in batches of {_BATCH}: policy versions written",
        notes=[
            "needed: shards that the burst's accounts need",
            "runs: of publish; SQS FIFO coalesces a burst's messages",
        ],
    )
    room = capacity(Settings.from_env(ENVIRON))
    for size in _SIZES[:-1]:
        for single_run in (True, False):
            counts, runs = _burst(stub, size, single_run=single_run)
            needed = -(-size // room)
            # A shard that one run fills in part is written again by the next run.
            at_most = (
                needed
                if single_run
                else sum(
                    (min(start + _BATCH, size) - 1) // room - start // room + 1 for start in range(0, size, _BATCH)
                )
            )
            written = counts.policies_written.total()
            measured.rows.append(
                {
                    "accounts": size,
                    "runs": runs,
                    "needed": needed,
                    "written": written,
                    "calls each": counts.calls.total() / size,
                }
            )
            about = "one run after the burst" if single_run else "a run after each batch"
            measured.claims.append(
                Claim(f"{size:,} accounts, {about}: versions / shards changed", written / at_most, 1)
            )
    return measured


def _burst(stub: StubProcess, size: int, *, single_run: bool) -> tuple[Counts, int]:
    stub.reset(Conditions())
    stage = functions(10)
    ids, runs = account_ids(RoleState.NEW, size), 0
    for start in range(0, size, _BATCH):
        stage.enroll(batch(ids[start : start + _BATCH]))
        if not single_run or start + _BATCH >= size:
            stage.publish()
            runs += 1
    return stub.counts(), runs


def _large(stub: StubProcess) -> Measurement:
    """Measure runs over a large organization, each in a new process, as Lambda runs them."""
    measured = Measurement(
        f"3d. publish, {_LARGEST:,} rows, scope organization, each run in a new process",
        notes=[f"each run has {_TIMEOUT_SECONDS:.0f} s, as the function; MB: the process's peak"],
    )
    with _environ(SOURCE_POLICY_SCOPE="organization", THREADS="10"):
        stub.reset(Conditions())
        functions(10)
        stub.put_rows(RoleState.NEW, _LARGEST, in_force=False)
        for about in ("grants all rows", "has nothing to do", "grants one more account"):
            if about == "grants one more account":
                stub.put_rows(RoleState.NEW, 1, start=_LARGEST, in_force=False)
            _run(stub, about, measured)
    return measured


def _run(stub: StubProcess, about: str, measured: Measurement) -> None:
    """Run publish until it finishes; a run that ends at the function's timeout is followed by another."""
    ledger = ENVIRON["LEDGER_TABLE"]
    runs, cpu, seconds, megabytes, unfinished = 0, 0.0, 0.0, 0.0, 1.0
    before = stub.counts()
    while unfinished:
        used = invoke_in_subprocess("publish", _TIMEOUT_SECONDS)
        runs, cpu, seconds, unfinished = runs + 1, cpu + used["cpu"], seconds + used["seconds"], used["unfinished"]
        megabytes = max(megabytes, used["megabytes"])
    after = stub.counts()
    measured.rows.append(
        {
            "publish": about,
            "runs": runs,
            "seconds": seconds,
            "CPU s": cpu,
            "MB": megabytes,
            "pages a run": (after.pages - before.pages)[ledger] / runs,
            "calls": (after.calls - before.calls).total(),
            "versions": (after.policies_written - before.policies_written).total(),
        }
    )
    if about != "grants all rows":  # its CPU is that of one UpdateItem per row
        measured.claims.append(Claim(f"publish that {about}: CPU s", cpu, _MAX_CPU_SECONDS))
    measured.claims += [
        Claim(f"publish that {about}: MB", megabytes, _MAX_MEGABYTES),
        Claim(f"publish that {about}: scans of the ledger a run", (after.scans - before.scans)[ledger] / runs, 1),
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
