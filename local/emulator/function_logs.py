"""Function logs: complete when the invocation ends, as on AWS."""

import queue
from typing import Any

from ministack.core import lambda_runtime

_END_MARKER = "end of this invocation's log"
_LINE_TIMEOUT_SECONDS = 5.0  # a killed process writes no end marker
_SCRIPT_END = "        _real_stdout.flush()\n\nrun()\n"


def patch() -> None:
    """Write an end marker after each invocation's log, and read up to it: ministack reads until the first pause."""
    script: str = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(_SCRIPT_END) != 1:
        raise RuntimeError("the end of ministack's function script changed: adapt function_logs.py")
    write_marker = f"        print({_END_MARKER!r}, file=sys.stderr, flush=True)\n"
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_SCRIPT_END, write_marker + _SCRIPT_END)
    lambda_runtime.Worker._drain_stderr_bounded = _complete_log


def _complete_log(worker: Any) -> str:
    lines: list[str] = []
    while True:
        try:
            line = worker._stderr_queue.get(timeout=_LINE_TIMEOUT_SECONDS)
        except queue.Empty:
            break
        if line == _END_MARKER:
            break
        lines.append(line)
    return "\n".join(lines)
