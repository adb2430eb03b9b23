"""As many seeds as there is time for, from where nobody has looked yet: python -m tests.integration.simulation.soak MINUTES."""

import sys
import time
from collections import Counter
from collections.abc import Mapping

from tests.integration.protocol.model import search
from tests.integration.simulation.boundary import simulated
from tests.integration.simulation.every_call import interrupted
from tests.integration.simulation.life import WAYS, first_broken
from tests.integration.simulation.one_fault import ERRORS, KILLS, OVERLAP
from tests.integration.simulation.scenarios import SCENARIOS

_PROTOCOL_SEEDS = 5_000  # of tests/integration/protocol
_CHUNK = 20  # seeds between two looks at the clock


def soak(minutes: float) -> int:
    """Search the protocol's model, interrupt every scenario at every call by every fault, then live through seeds until the time is over."""
    started, until = time.time(), time.time() + 60 * minutes
    protocol = search(range(int(started), int(started) + _PROTOCOL_SEEDS))
    sys.stdout.write(f"{protocol}\n")
    if protocol.violations:
        return 1
    broken: str | None = None
    runs = calls = 0
    for name in SCENARIOS:
        report = interrupted(name, (*KILLS, OVERLAP, *ERRORS))
        runs, calls = runs + report.runs, calls + report.calls
        if report.divergences:
            sys.stdout.write("\n\n".join(report.divergences) + "\n")
            return 1
    sys.stdout.write(f"scenarios={len(SCENARIOS)} calls={calls} interrupted={runs} divergences=0\n")
    met: Counter[str] = Counter()
    first = seed = int(started)
    while broken is None and time.time() < until:
        with simulated() as boundary:
            broken, more = first_broken(boundary, range(seed, seed + _CHUNK))
        met, seed = met + more, seed + _CHUNK
    if broken is not None:
        sys.stdout.write(f"{broken}\n")
    steps, seeds = met.pop("steps", 0), met.pop("seeds", 0)
    ways = _told({name: met.pop(name, 0) for name in WAYS})
    told = f"seeds={seeds} first={first} states={steps} faults={met.total()} broken={int(broken is not None)}"
    sys.stdout.write(f"{told}\n{_told(met)}\n{ways}\n")
    return int(broken is not None)


def _told(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1])))
