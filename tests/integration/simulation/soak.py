"""Search with new seeds until the time is over: python -m tests.integration.simulation.soak MINUTES."""

import sys
import time
from collections import Counter
from collections.abc import Mapping

from tests.integration.protocol.model import search
from tests.integration.simulation.fault_matrix import inject_faults
from tests.integration.simulation.faults import ERRORS, KILLS, OVERLAP
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.random_run import CONDITIONS, first_violation
from tests.integration.simulation.scenarios import SCENARIOS

_PROTOCOL_SEEDS = 5_000
_CHUNK = 20  # seeds between two looks at the clock


def soak(minutes: float) -> int:
    """Search the protocol's model, then inject every fault at every call of every scenario, then run random seeds.

    Return 1 as soon as anything fails.
    """
    started = time.time()
    report = search(range(int(started), int(started) + _PROTOCOL_SEEDS))
    sys.stdout.write(f"{report}\n")
    if report.violations or _inject_all_faults():
        return 1
    return _run_seeds(int(started), until=started + 60 * minutes)


def _inject_all_faults() -> int:
    runs = calls = 0
    for name in SCENARIOS:
        report = inject_faults(name, (*KILLS, OVERLAP, *ERRORS))
        runs, calls = runs + report.runs, calls + report.calls
        if report.divergences:
            sys.stdout.write("\n\n".join(report.divergences) + "\n")
            return 1
    sys.stdout.write(f"scenarios={len(SCENARIOS)} calls={calls} runs={runs} divergences=0\n")
    return 0


def _run_seeds(first: int, until: float) -> int:
    met: Counter[str] = Counter()
    trace, seed = None, first
    while trace is None and time.time() < until:
        with simulated() as harness:
            trace, more = first_violation(harness, range(seed, seed + _CHUNK))
        met, seed = met + more, seed + _CHUNK
    if trace is not None:
        sys.stdout.write(f"{trace}\n")
    steps, seeds = met.pop("steps", 0), met.pop("seeds", 0)
    conditions = _counts({name: met.pop(name, 0) for name in CONDITIONS})
    totals = f"seeds={seeds} first={first} states={steps} faults={met.total()} violations={int(trace is not None)}"
    sys.stdout.write(f"{totals}\n{_counts(met)}\n{conditions}\n")
    return int(trace is not None)


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1])))
