"""How much memory this process has taken at most."""

import resource
from pathlib import Path


def peak_megabytes() -> float:
    """Tell it in megabytes; on Linux without what the process was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
