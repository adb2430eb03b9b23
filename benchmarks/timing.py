"""Times of one run; only their ratios are meaningful."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds, and CPU seconds of this process."""

    seconds: float
    cpu: float


def timed(work: Callable[[], object]) -> Timing:
    """Run a function and return its times."""
    gc.collect()
    gc.freeze()  # objects of earlier runs are not scanned again
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - clock, time.process_time() - cpu)


def median_timing(repetitions: list[Timing]) -> Timing:
    """Return the median of both times."""
    return Timing(median(each.seconds for each in repetitions), median(each.cpu for each in repetitions))
