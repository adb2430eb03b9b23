"""1. What one account costs, by kind, and how many a second there are, against the floor, botocove and simple scripts."""

from statistics import median

from benchmarks.contestants import Contestant, bare, botocove, rolecall, simple_script
from benchmarks.effort import Effort
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.timing import Spent, medians, spent

_CONTESTANTS = {
    "rolecall": rolecall,
    "(a) bare calls": bare,
    "(b) botocove": botocove,
    "(c) simple script": simple_script,
}
_SLOW = {"(b) botocove", "(c) simple script"}
_THREADS = 64
_LATENCY = 0.08


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure the CPU on one thread without latency, then the accounts a second in many threads with latency."""
    cpu = Measurement("1a. one thread, no latency: CPU an account")
    for kind in Kind:
        runs = _interleaved(stub, kind, effort.accounts, effort.few_accounts, effort.repetitions, threads=1)
        spent_by = {name: medians(each) for name, each in runs.items()}
        # Run by run, since the machine may be faster at times.
        of_floor = {
            name: median(run.cpu / floor.cpu for run, floor in zip(each, runs["(a) bare calls"], strict=True))
            for name, each in runs.items()
        }
        for name, each in spent_by.items():
            cpu.rows.append(
                {
                    "account": kind,
                    "who": name,
                    "CPU ms": each.cpu * 1000,
                    "CPU / floor": of_floor[name],
                    "accounts/s": 1 / each.seconds,
                }
            )
        if kind is not Kind.DRIFTED:
            cpu.claims.append(Claim(f"{kind} account, CPU / floor", of_floor["rolecall"], 1.3))
    speed = Measurement(f"1b. {_THREADS} threads, {_LATENCY * 1000:.0f} ms latency: accounts a second, new accounts")
    runs = _interleaved(
        stub, Kind.NEW, effort.many_accounts, _THREADS, effort.few_repetitions, threads=_THREADS, latency=_LATENCY
    )
    spent_by = {name: medians(each) for name, each in runs.items()}
    faster = {
        name: median(run.seconds / ours.seconds for run, ours in zip(each, runs["rolecall"], strict=True))
        for name, each in runs.items()
    }
    for name, each in spent_by.items():
        speed.rows.append(
            {
                "who": name,
                "accounts/s": 1 / each.seconds,
                "rolecall's / its": faster[name],
                "CPU ms": each.cpu * 1000,
            }
        )
    speed.claims += [
        Claim(f"rolecall / {name}, accounts a second", faster[name], 20, at_most=False) for name in sorted(_SLOW)
    ]
    return [cpu, speed]


def _interleaved(
    stub: StubProcess, kind: Kind, many: int, few: int, repetitions: int, *, threads: int, latency: float = 0.0
) -> dict[str, list[Spent]]:
    """Have each contestant work in turn, several times over, and return what each spent an account in each run."""
    stub.begin(Conditions(latency=latency, kind=kind, accounts=many))
    contestants: dict[str, Contestant] = {name: make(kind, threads) for name, make in _CONTESTANTS.items()}
    counts = {name: few if name in _SLOW else many for name in contestants}
    for contestant in contestants.values():
        contestant(account_ids(kind, min(threads, few)))  # so that connections are open and models loaded
    runs: dict[str, list[Spent]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, contestant in contestants.items():
            ids = account_ids(kind, counts[name])
            run = spent(lambda contestant=contestant, ids=ids: contestant(ids))  # type: ignore[misc]
            runs[name].append(Spent(run.seconds / len(ids), run.cpu / len(ids)))
    return runs
