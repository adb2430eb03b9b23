"""Search with new seeds until the time is over: python -m tests.integration.simulation.soak MINUTES."""

import sys
import time
from collections import Counter
from collections.abc import Mapping

from tests.integration.protocol.model import search
from tests.integration.simulation.fault_matrix import MatrixReport, inject_faults
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
    first = int(time.time())
    until = first + 60 * minutes
    report = search(range(first, first + _PROTOCOL_SEEDS))
    sys.stdout.write(f"{report}\n")
    if report.violations:
        return 1
    matrix = MatrixReport()
    for name in SCENARIOS:
        more = inject_faults(name, (*KILLS, OVERLAP, *ERRORS))
        matrix.calls, matrix.runs = matrix.calls + more.calls, matrix.runs + more.runs
        if more.divergences:
            sys.stdout.write("\n\n".join(more.divergences) + "\n")
            return 1
    sys.stdout.write(f"scenarios={len(SCENARIOS)} calls={matrix.calls} runs={matrix.runs} divergences=0\n")
    met: Counter[str] = Counter()
    trace, seed = None, first
    while trace is None and time.time() < until:
        with simulated() as harness:
            trace, met_now = first_violation(harness, range(seed, seed + _CHUNK))
        met, seed = met + met_now, seed + _CHUNK
    steps, seeds = met.pop("steps", 0), met.pop("seeds", 0)
    conditions = _counts({name: met.pop(name, 0) for name in CONDITIONS})
    totals = f"seeds={seeds} first={first} states={steps} faults={met.total()} violations={int(trace is not None)}"
    sys.stdout.write("\n".join([*([trace] if trace else []), totals, _counts(met), conditions, ""]))
    return int(trace is not None)


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1])))
