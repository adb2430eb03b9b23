"""Every target for its share of the time: python -m tests.integration.fuzzing MINUTES [TARGET…]."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.integration.fuzzing.targets import TARGETS

ROOT = Path(__file__).parents[3]
BUILT = ROOT / "build" / "fuzz"  # what was found worth keeping, for the next time
REGRESSIONS = Path(__file__).parent / "regressions"
_SLOWEST = 10  # seconds for one input
_LONGEST = 16_384  # bytes of one input
_SPARE = 120  # seconds to start, to read what was kept, and to end in
_TRIED = re.compile(r"stat::number_of_executed_units: +(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
_KEPT = re.compile(r"corp: (\d+)")


def fuzz(minutes: float, names: Iterable[str]) -> int:
    """Fuzz each target, tell how far it came, and end with 1 if anything was found."""
    chosen = list(names) or list(TARGETS)
    found = 0
    for name in chosen:
        found += _fuzz_one(name, max(1, round(60 * minutes / len(chosen))))
    return 1 if found else 0


def _fuzz_one(name: str, seconds: int) -> int:
    here = BUILT / name
    corpus, seeds = here / "corpus", here / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(TARGETS[name].written_seeds()):
        (seeds / f"{index:03}").write_bytes(seed)
    started = time.time()
    options = [f"-max_total_time={seconds}", f"-timeout={_SLOWEST}", f"-max_len={_LONGEST}", "-print_final_stats=1"]
    command = [
        sys.executable,
        "-m",
        "tests.integration.fuzzing.one_target",
        name,
        *options,
        f"-artifact_prefix={here}/",
    ]
    folders = [str(each) for each in (corpus, seeds, REGRESSIONS / name) if each.is_dir()]
    log = here / "log"
    with log.open("wb") as output:
        ended = subprocess.run(
            [*command, *folders],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds + _SPARE,
            check=False,
        )
    told = log.read_text(errors="replace")
    crashes = [file for file in _found(here) if file.stat().st_mtime >= started]
    tried = _TRIED.findall(told)
    edges, features = (_COVERED.findall(told) or [("0", "0")])[-1]
    kept = (_KEPT.findall(told) or ["0"])[-1]
    sys.stdout.write(
        f"{name:<10} executions={(tried or ['0'])[-1]} edges={edges} features={features} corpus={kept} crashes={len(crashes)}\n"
    )
    for file in crashes:
        again = f"{os.path.relpath(sys.executable, ROOT)} -m tests.integration.fuzzing.replay {name} {file.relative_to(ROOT)}"
        sys.stdout.write(f"  input: {file.read_bytes()[:2000]!r}\n  again: {again}\n")
    if ended.returncode and not crashes:
        sys.stdout.write(f"  it did not run; the end of {log}:\n{told[-2000:]}\n")
    sys.stdout.flush()
    return len(crashes) or int(ended.returncode != 0)


def _found(here: Path) -> list[Path]:
    return sorted(file for kind in ("crash-*", "timeout-*", "oom-*") for file in here.glob(kind))


if __name__ == "__main__":
    sys.exit(fuzz(float(sys.argv[1]), sys.argv[2:]))
