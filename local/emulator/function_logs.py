"""What a function logs is all there when its invocation ends, as on AWS, however slowly it is read."""

import queue
from typing import Any

from ministack.core import lambda_runtime

_END = "end of this invocation's log"
_SLOWEST = 5.0  # seconds between lines; a process that was killed writes no end
_LAST = "        _real_stdout.flush()\n\nrun()\n"


def mend() -> None:
    """Have each process mark where an invocation's log ends, and read up to there: ministack reads until it pauses."""
    script: str = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(_LAST) != 1:
        raise RuntimeError("ministack's script for processes of functions ends otherwise than it did")
    marking = f"        print({_END!r}, file=sys.stderr, flush=True)\n"
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_LAST, marking + _LAST)
    lambda_runtime.Worker._drain_stderr_bounded = _whole_log


def _whole_log(worker: Any) -> str:
    lines: list[str] = []
    while True:
        try:
            line = worker._stderr_queue.get(timeout=_SLOWEST)
        except queue.Empty:
            break
        if line == _END:
            break
        lines.append(line)
    return "\n".join(lines)
