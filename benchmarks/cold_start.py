"""4. Cold start: the import of the app and the first event, against the floor; and the package's size."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

from benchmarks.handler import functions
from benchmarks.profiles import Profile
from benchmarks.report import Claim, Measurement
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.stub.role_states import RoleState

_MAX_RATIO = 1.3
_ROOT = Path(__file__).parents[1]
_BOTO3_PACKAGES = ("boto3", "botocore", "jmespath", "dateutil", "s3transfer", "six", "urllib3", "typing_extensions")
_FRAMEWORKS = ("aws_lambda_powertools", "chalice")


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:
    """Measure starts of the app and of the floor in turn, each in a new process."""
    measured = Measurement("4. cold start: CPU of a new process")
    starts = ("rolecall", "floor")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
    for name in starts:  # writes the bytecode
        _reset(stub)
        _run(name)
    for _ in range(3 * profile.repetitions):  # starts are short, so differences are hundredths of a second
        for name in starts:
            before = _reset(stub)
            runs[name].append(_run(name))
    calls = stub.counts().calls - before
    for name in starts:
        measured.rows.append(
            {
                "start": "rolecall" if name == "rolecall" else "the same imports; fresh clients and the same calls",
                **{f"{key} ms": 1000 * _median(runs[name], key) for key in ("import", "event")},
                "modules": _median(runs[name], "modules"),
                "MB": _median(runs[name], "megabytes"),
            }
        )
    measured.claims = [
        Claim(f"{about}, CPU / floor", _median(runs["rolecall"], key) / _median(runs["floor"], key), _MAX_RATIO)
        for key, about in (("import", "importing app.py"), ("event", "the first event"))
    ]
    measured.notes = [
        "floor: import boto3, chalice.app and Powertools' Logger and Metrics; then a client of each service, and the event's calls",
        f"calls of the floor's event: {calls.total()}",
        f"package: app {_zipped(('app.py', 'chalicelib')):.0f} kB, with what it ships {_megabytes():.1f} MB zipped",
    ]
    return [measured]


def _reset(stub: StubProcess) -> Counter[str]:
    """Reset the stub to a stage after its first run of publish, and return the calls of that run."""
    stub.reset(Conditions(role_state=RoleState.NEW))
    functions(1)
    return stub.counts().calls


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


def _median(runs: list[dict[str, float]], key: str) -> float:
    return median(run[key] for run in runs)


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
    names = tuple(name if (installed / name).exists() else f"{name}.py" for name in (*_BOTO3_PACKAGES, *_FRAMEWORKS))
    return (_zipped(("app.py", "chalicelib")) + _zipped(names, installed)) / 1000
