"""Isolation between tests, and what the workers of a test run share."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from chalicelib.bootstrap import application
from chalicelib.telemetry import logger, metrics

ROOT = Path(__file__).parents[1]
TRACED = tuple(Path(__file__).with_name(name) for name in ("unit", "integration"))


def pytest_configure() -> None:
    """Restore the handling of Ctrl-C, which a shell disables in background processes, for the processes that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace coverage only of tests with the application in their own process and thread: it doubles a test's time."""
    if item.path.parent in TRACED:
        return (yield)
    tracing = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracing)


@pytest.fixture(scope="session", autouse=True)
def _metrics_namespace() -> Iterator[None]:
    """Set the namespace that every function has in its environment; Powertools reads it at import, too."""
    metrics.namespace = "Rolecall"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", metrics.namespace)
        yield


@pytest.fixture(autouse=True)
def _isolated() -> None:
    """Reset what an invocation leaves in its process: metrics, log keys and the application."""
    metrics.service = None
    metrics.clear_metrics()
    logger.structure_logs()
    application.cache_clear()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def packaged(shared: Path) -> Path:
    """The packaged app, which a wheel contains, once per test run."""
    out = shared / "package"
    with (shared / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", out], check=True)
    return out


@pytest.fixture(scope="session")
def unpacked(shared: Path) -> Path:
    """The directory in which the local AWS unpacks and compiles functions' zips, once per test run."""
    directory = shared / "unpacked"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def process() -> Iterator[ProcessPoolExecutor]:
    """A separate process for the simulation: coverage would take most of its time, and can't trace greenlets."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool
