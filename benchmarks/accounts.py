"""1. CPU for one account and accounts per second, by role state, against the baselines."""

from functools import partial
from statistics import median

from benchmarks.baselines import Runner, bare, botocove, rolecall, simple_script
from benchmarks.profiles import Profile
from benchmarks.report import Claim, Measurement
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.stub.role_states import RoleState, account_ids
from benchmarks.timing import Timing, median_timing, timed

_RUNNERS = {
    "rolecall": rolecall,
    "(a) bare calls": bare,
    "(b) botocove": botocove,
    "(c) simple script": simple_script,
}
_SLOW = {"(b) botocove", "(c) simple script"}
_THREADS = 64
_LATENCY = 0.08


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:
    """Measure the CPU on one thread without latency, then accounts per second with many threads and latency."""
    return [_cpu(stub, profile), _throughput(stub, profile)]


def _cpu(stub: StubProcess, profile: Profile) -> Measurement:
    measured = Measurement("1a. one thread, no latency: CPU an account")
    for role_state in RoleState:
        runs = _interleaved(stub, role_state, profile.accounts, profile.slow_accounts, profile.repetitions)
        # Ratios within one repetition: the machine's speed varies.
        of_floor = {
            name: median(run.cpu / floor.cpu for run, floor in zip(each, runs["(a) bare calls"], strict=True))
            for name, each in runs.items()
        }
        for name, each in runs.items():
            time = median_timing(each)
            measured.rows.append(
                {
                    "account": role_state,
                    "who": name,
                    "CPU ms": time.cpu * 1000,
                    "CPU / floor": of_floor[name],
                    "accounts/s": 1 / time.seconds,
                }
            )
        if role_state is not RoleState.DRIFTED:
            measured.claims.append(Claim(f"{role_state} account, CPU / floor", of_floor["rolecall"], 1.3))
    return measured


def _throughput(stub: StubProcess, profile: Profile) -> Measurement:
    measured = Measurement(f"1b. {_THREADS} threads, {_LATENCY * 1000:.0f} ms latency: accounts a second, new accounts")
    many, repetitions = profile.concurrent_accounts, profile.long_repetitions
    runs = _interleaved(stub, RoleState.NEW, many, _THREADS, repetitions, threads=_THREADS, latency=_LATENCY)
    faster = {
        name: median(run.seconds / ours.seconds for run, ours in zip(each, runs["rolecall"], strict=True))
        for name, each in runs.items()
    }
    for name, each in runs.items():
        time = median_timing(each)
        measured.rows.append(
            {
                "who": name,
                "accounts/s": 1 / time.seconds,
                "rolecall's / its": faster[name],
                "CPU ms": time.cpu * 1000,
            }
        )
    measured.claims += [
        Claim(f"rolecall / {name}, accounts a second", faster[name], 20, at_most=False) for name in sorted(_SLOW)
    ]
    return measured


def _interleaved(
    stub: StubProcess,
    role_state: RoleState,
    many: int,
    few: int,
    repetitions: int,
    *,
    threads: int = 1,
    latency: float = 0.0,
) -> dict[str, list[Timing]]:
    """Run each runner in turn, `repetitions` times, and return the time per account of each run.

    The slow baselines get `few` accounts, the others `many`.
    """
    stub.reset(Conditions(latency=latency, role_state=role_state, accounts=many))
    runners: dict[str, Runner] = {name: build(role_state, threads) for name, build in _RUNNERS.items()}
    counts = {name: few if name in _SLOW else many for name in runners}
    for runner in runners.values():
        runner(account_ids(role_state, min(threads, few)))  # opens the connections and loads the service models
    runs: dict[str, list[Timing]] = {name: [] for name in runners}
    for _ in range(repetitions):
        for name, runner in runners.items():
            ids = account_ids(role_state, counts[name])
            run = timed(partial(runner, ids))
            runs[name].append(Timing(run.seconds / len(ids), run.cpu / len(ids)))
    return runs
