"""Times of one run, of which only the ratios mean something."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock, and of this process's CPU."""

    seconds: float
    cpu: float


def spent(work: Callable[[], object]) -> Spent:
    """Measure some work."""
    gc.collect()
    gc.freeze()  # what was measured before leaves much behind, which would be looked through again and again
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - clock, time.process_time() - cpu)


def medians(repetitions: list[Spent]) -> Spent:
    """Take the median of each."""
    return Spent(median(each.seconds for each in repetitions), median(each.cpu for each in repetitions))
