"""README's excerpt of the demo's output, compared with what the demo prints."""

import re
from collections.abc import Iterator

_BLOCK = re.compile(r"From the output of `make demo`:\n\n```text\n(.*?)```", re.DOTALL)
_VARIABLE = re.compile(r"\d+(?:\.\d+)?")  # ids, counts and times


def absent_lines(readme: str, printed: str) -> Iterator[str]:
    """Yield the lines of README's excerpt that were not printed. `…` replaces any text, and each number any other number."""
    lines = [_VARIABLE.sub("0", line) for line in printed.splitlines()]
    for line in _BLOCK.findall(readme)[0].splitlines():
        pattern = ".*".join(map(re.escape, _VARIABLE.sub("0", line).split("…")))
        if not any(re.fullmatch(pattern, each) for each in lines):
            yield line
