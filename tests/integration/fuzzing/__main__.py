"""Fuzz targets, each for its share of the time: python -m tests.integration.fuzzing MINUTES [TARGET…]."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.integration.fuzzing.targets import TARGETS

ROOT = Path(__file__).parents[3]
OUTPUT = ROOT / "build" / "fuzz"  # each target's corpus, for the next time
REGRESSIONS = Path(__file__).parent / "regressions"
_INPUT_SECONDS = 10
_INPUT_BYTES = 16_384
_SPARE_SECONDS = 120  # to start, to read the corpus, and to end
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: +(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
_CORPUS = re.compile(r"corp: (\d+)")


def fuzz(minutes: float, names: Iterable[str]) -> int:
    """Fuzz each target, print its figures, and return 1 if anything was found."""
    chosen = list(names) or list(TARGETS)
    seconds = max(1, round(60 * minutes / len(chosen)))
    return int(sum([_fuzz_one(name, seconds) for name in chosen]) > 0)


def _fuzz_one(name: str, seconds: int) -> int:
    output = OUTPUT / name
    corpus, seeds = output / "corpus", output / "seeds"
    for directory in (corpus, seeds):
        directory.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(TARGETS[name].encoded_seeds()):
        (seeds / f"{index:03}").write_bytes(seed)
    started = time.time()
    options = [f"-max_total_time={seconds}", f"-timeout={_INPUT_SECONDS}", f"-max_len={_INPUT_BYTES}"]
    options += ["-print_final_stats=1", f"-artifact_prefix={output}/"]
    directories = [str(each) for each in (corpus, seeds, REGRESSIONS / name) if each.is_dir()]
    log = output / "log"
    with log.open("wb") as stream:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.integration.fuzzing.one_target", name, *options, *directories],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=seconds + _SPARE_SECONDS,
            check=False,
        )
    found = [file for file in _findings(output) if file.stat().st_mtime >= started]
    text = log.read_text(errors="replace")
    _print_figures(name, text, len(found))
    for file in found:
        command = f"{os.path.relpath(sys.executable, ROOT)} -m tests.integration.fuzzing.replay"
        sys.stdout.write(
            f"  input: {file.read_bytes()[:2000]!r}\n  repeat: {command} {name} {file.relative_to(ROOT)}\n"
        )
    if ended.returncode and not found:
        sys.stdout.write(f"  the fuzzer failed; the end of {log}:\n{text[-2000:]}\n")
    sys.stdout.flush()
    return len(found) or int(ended.returncode != 0)


def _print_figures(name: str, log: str, crashes: int) -> None:
    executions, corpus = ((pattern.findall(log) or ["0"])[-1] for pattern in (_EXECUTIONS, _CORPUS))
    edges, features = (_COVERED.findall(log) or [("0", "0")])[-1]
    figures = f"executions={executions} edges={edges} features={features} corpus={corpus} crashes={crashes}"
    sys.stdout.write(f"{name:<10} {figures}\n")


def _findings(output: Path) -> list[Path]:
    return sorted(file for kind in ("crash-*", "timeout-*", "oom-*") for file in output.glob(kind))


if __name__ == "__main__":
    sys.exit(fuzz(float(sys.argv[1]), sys.argv[2:]))
