"""2. The whole worker: batches of the accounts queue through `enroll`, by latency and threads, against what that allows."""

from statistics import median

from benchmarks.contestants import bare
from benchmarks.deployment import batch
from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.timing import Spent, medians, spent

_LATENCIES = (0.0, 0.04, 0.08)
_THREADS = (1, 8, 64)
_BUSY = 4  # threads that keep one core busy where there is no latency
_OF_LATENCY, _OF_CPU = 0.8, 0.7


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure new accounts (a backfill) and unchanged ones (a resync)."""
    return [_measure(stub, effort, kind) for kind in (Kind.NEW, Kind.UNCHANGED)]


def _measure(stub: StubProcess, effort: Effort, kind: Kind) -> Measurement:
    told = Measurement(
        f"2. the whole worker, {kind} accounts, batches of {effort.batch}: accounts a second",
        notes=[
            f"latency-bound: threads / (calls x latency). CPU-bound: the same calls bare, no latency, {_BUSY} threads.",
            "CPU ms: this process's, an account. waiting ms: calls x latency / threads, an account.",
        ],
    )
    for latency in _LATENCIES:
        for threads in _THREADS:
            # A single thread waits for each call in turn, so that few accounts tell as much.
            count = min(effort.batch, max(20 if latency else 200, threads * 20))
            _measure_one(stub, effort, kind, latency, threads, count, told)
    return told


def _measure_one(
    stub: StubProcess, effort: Effort, kind: Kind, latency: float, threads: int, count: int, told: Measurement
) -> None:
    stub.begin(Conditions(latency=latency, kind=kind))
    stage = functions(threads)
    worker = stage.enroll
    worker(batch(account_ids(kind, threads)))  # so that connections are open, and models loaded
    floor = bare(kind, _BUSY, ledger=True)
    floor(account_ids(kind, _BUSY))
    known = kind is Kind.UNCHANGED
    if known:  # An account that a resync meets is named by its shard, and was recorded long ago.
        stub.latency(0)
        stub.put_rows(kind, count, in_force=False)
        stage.publish()
        stub.latency(latency)
    runs: list[Spent] = []
    floors: list[Spent] = []
    calls: list[int] = []
    for repetition in range(effort.few_repetitions):
        ids = account_ids(kind, count, start=0 if known else count * (repetition + 1))
        if known:
            stub.put_rows(kind, count)
        event = batch(ids)
        before = stub.seen().calls.total()
        runs.append(spent(lambda event=event: worker(event)))  # type: ignore[misc]
        calls.append(stub.seen().calls.total() - before)
        stub.latency(0)
        few = ids[: effort.accounts]
        floors.append(spent(lambda few=few: floor(few)))  # type: ignore[misc]
        stub.latency(latency)
    run = medians(runs)
    cpu_bound = len(few) / medians(floors).seconds
    bare_cpu = medians(floors).cpu / len(few)
    calls_each = median(calls) / count
    waiting = calls_each * latency / threads  # seconds an account
    latency_bound = 1 / waiting if waiting else float("inf")
    speed = count / run.seconds
    told.rows.append(
        {
            "latency ms": round(latency * 1000),
            "threads": threads,
            "accounts/s": speed,
            "latency-bound": latency_bound if latency else None,
            "of it %": 100 * speed / latency_bound if latency else None,
            "CPU-bound": cpu_bound,
            "of it % ": 100 * speed / cpu_bound,
            "CPU ms": 1000 * run.cpu / count,
            "CPU / bare": run.cpu / count / bare_cpu,
            "waiting ms": 1000 * waiting,
            "calls": calls_each,
        }
    )
    if latency == max(_LATENCIES) and threads == max(_THREADS):
        bound = min(_OF_LATENCY * latency_bound, _OF_CPU * cpu_bound)
        about = (
            f"{kind}, {threads} threads, {latency * 1000:.0f} ms: accounts a second / what must be shown "
            f"(the lesser of {_OF_LATENCY:.0%} of latency-bound and {_OF_CPU:.0%} of CPU-bound)"
        )
        told.claims.append(Claim(about, speed / bound, 1, at_most=False))
