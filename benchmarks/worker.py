"""2. `enroll` with batches of the accounts queue, by latency and threads, against the latency-bound and CPU-bound maximum."""

from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.baselines import bare
from benchmarks.deployment import batch
from benchmarks.handler import functions
from benchmarks.profiles import Profile
from benchmarks.report import Claim, Measurement
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.stub.role_states import RoleState, account_ids
from benchmarks.timing import Timing, median_timing, timed

_LATENCIES = (0.0, 0.04, 0.08)
_THREADS = (1, 8, 64)
_BASELINE_THREADS = 4  # keep one core busy without latency
_MIN_LATENCY_BOUND, _MIN_CPU_BOUND = 0.8, 0.7


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:
    """Measure new accounts (a backfill) and unchanged ones (a resync)."""
    return [_measure(stub, profile, role_state) for role_state in (RoleState.NEW, RoleState.UNCHANGED)]


def _measure(stub: StubProcess, profile: Profile, role_state: RoleState) -> Measurement:
    measured = Measurement(
        f"2. the whole worker, {role_state} accounts, batches of {profile.batch_size}: accounts a second",
        notes=[
            f"latency-bound: threads / (calls x latency). CPU-bound: the same calls bare, no latency, {_BASELINE_THREADS} threads.",
            "CPU ms: this process's, an account. waiting ms: calls x latency / threads, an account.",
        ],
    )
    for latency in _LATENCIES:
        for threads in _THREADS:
            # With latency and few threads, fewer accounts give the same result.
            count = min(profile.batch_size, max(20 if latency else 200, threads * 20))
            case = _Case(role_state, latency, threads, count)
            _add(measured, case, _run(stub, profile, case))
    return measured


@dataclass(frozen=True)
class _Case:
    role_state: RoleState
    latency: float
    threads: int
    count: int


@dataclass(frozen=True)
class _Result:
    """Medians: the time of a batch, the time per account of the bare calls, and calls per account."""

    batch: Timing
    bare: Timing
    calls: float


def _run(stub: StubProcess, profile: Profile, case: _Case) -> _Result:
    """Measure batches through `enroll`, and the same calls by the baseline without latency."""
    role_state, count = case.role_state, case.count
    stub.reset(Conditions(latency=case.latency, role_state=role_state))
    stage = functions(case.threads)
    stage.enroll(batch(account_ids(role_state, case.threads)))  # opens the connections and loads the service models
    baseline = bare(role_state, _BASELINE_THREADS, ledger=True)
    baseline(account_ids(role_state, _BASELINE_THREADS))
    known = role_state is RoleState.UNCHANGED
    if known:  # A resync's accounts are in a shard, and their rows are older than the listing.
        stub.set_latency(0)
        stub.put_rows(role_state, count, in_force=False)
        stage.publish()
        stub.set_latency(case.latency)
    batches: list[Timing] = []
    baselines: list[Timing] = []
    calls: list[int] = []
    for repetition in range(profile.long_repetitions):
        ids = account_ids(role_state, count, start=0 if known else count * (repetition + 1))
        if known:
            stub.put_rows(role_state, count)
        before = stub.counts().calls.total()
        batches.append(timed(partial(stage.enroll, batch(ids))))
        calls.append(stub.counts().calls.total() - before)
        stub.set_latency(0)
        few = ids[: profile.accounts]
        run = timed(partial(baseline, few))
        baselines.append(Timing(run.seconds / len(few), run.cpu / len(few)))
        stub.set_latency(case.latency)
    return _Result(median_timing(batches), median_timing(baselines), median(calls) / count)


def _add(measured: Measurement, case: _Case, result: _Result) -> None:
    """Add a row, and for the largest case the claim."""
    latency, threads = case.latency, case.threads
    cpu_bound = 1 / result.bare.seconds
    waiting = result.calls * latency / threads  # seconds per account
    latency_bound = 1 / waiting if waiting else float("inf")
    speed = case.count / result.batch.seconds
    cpu = result.batch.cpu / case.count
    measured.rows.append(
        {
            "latency ms": round(latency * 1000),
            "threads": threads,
            "accounts/s": speed,
            "latency-bound": latency_bound if latency else None,
            "of it %": 100 * speed / latency_bound if latency else None,
            "CPU-bound": cpu_bound,
            "of it % ": 100 * speed / cpu_bound,
            "CPU ms": 1000 * cpu,
            "CPU / bare": cpu / result.bare.cpu,
            "waiting ms": 1000 * waiting,
            "calls": result.calls,
        }
    )
    if latency == max(_LATENCIES) and threads == max(_THREADS):
        bound = min(_MIN_LATENCY_BOUND * latency_bound, _MIN_CPU_BOUND * cpu_bound)
        about = (
            f"{case.role_state}, {threads} threads, {latency * 1000:.0f} ms: accounts a second / what must be shown "
            f"(the lesser of {_MIN_LATENCY_BOUND:.0%} of latency-bound and {_MIN_CPU_BOUND:.0%} of CPU-bound)"
        )
        measured.claims.append(Claim(about, speed / bound, 1, at_most=False))
