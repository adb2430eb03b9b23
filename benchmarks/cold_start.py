"""4. Cold start: importing the app, and its first event, against what boto3 and the frameworks cost by themselves; the package."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind
from benchmarks.stub.process import Conditions, StubProcess

_LIMIT = 1.3
_ROOT = Path(__file__).parents[1]
_SHIPPED = ("boto3", "botocore", "jmespath", "dateutil", "s3transfer", "six", "urllib3", "typing_extensions")
_OTHERS = ("aws_lambda_powertools", "chalice")


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure each in processes of its own, in turn."""
    told = Measurement("4. cold start: CPU of a process of its own")
    starts = ("rolecall", "floor")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
    for name in starts:  # so that all of it is compiled
        _begin(stub)
        _run(name)
    for _ in range(3 * effort.repetitions):  # a start is short, and what is judged are a few hundredths of a second
        for name in starts:
            before = _begin(stub)
            runs[name].append(_run(name))
    calls = stub.seen().calls - before
    for name in starts:
        told.rows.append(
            {
                "who": "rolecall" if name == "rolecall" else "the same imports; fresh clients and the same calls",
                **{f"{what} ms": 1000 * _median(runs[name], what) for what in ("import", "event")},
                "modules": _median(runs[name], "modules"),
                "MB": _median(runs[name], "megabytes"),
            }
        )
    told.claims = [
        Claim(f"{about}, CPU / floor", _median(runs["rolecall"], what) / _median(runs["floor"], what), _LIMIT)
        for what, about in (("import", "importing app.py"), ("event", "the first event"))
    ]
    told.notes = [
        "floor: import boto3, chalice.app and Powertools' Logger and Metrics; then a client of each service, and the event's calls",
        f"calls of the floor's event: {calls.total()}",
        f"package: ours {_zipped(('app.py', 'chalicelib')):.0f} kB, with what it ships {_megabytes():.1f} MB zipped",
    ]
    return [told]


def _begin(stub: StubProcess) -> Counter[str]:
    """Begin with a stage whose first run of publish is done, and return the calls of that."""
    stub.begin(Conditions(kind=Kind.NEW))
    functions(1)
    return stub.seen().calls


def _run(name: str) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.start", name],
        cwd=_ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def _median(runs: list[dict[str, float]], what: str) -> float:
    return median(run[what] for run in runs)


def _zipped(names: tuple[str, ...], root: Path = _ROOT) -> float:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "package.zip"
        with ZipFile(path, "w", ZIP_DEFLATED) as package:
            for name in names:
                for found in (root / name, *(root / name).rglob("*")):
                    if found.is_file() and found.suffix != ".pyc":
                        package.write(found, found.relative_to(root))
        return path.stat().st_size / 1000


def _megabytes() -> float:
    installed = next(Path(each) for each in sys.path if (Path(each) / "boto3").is_dir())
    names = tuple(name if (installed / name).exists() else f"{name}.py" for name in (*_SHIPPED, *_OTHERS))
    return (_zipped(("app.py", "chalicelib")) + _zipped(names, installed)) / 1000
