"""What all workers of one run share, and the process that what is simulated runs in."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACED = tuple(Path(__file__).with_name(name) for name in ("unit", "integration"))


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: a shell has what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace coverage, which doubles what a test costs, only where a test has the application in its own process and thread."""
    if item.path.parent in TRACED:
        return (yield)
    tracing = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracing)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run, whichever of its workers asks."""
    own = tmp_path_factory.getbasetemp()
    directory = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def packaged_for(shared: Path) -> Callable[[str], Path]:
    """Package the app for a stage as `make package` does, once a run."""

    def packaged(stage: str) -> Path:
        out = shared / f"package-{stage}"
        with (shared / f"{stage}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not out.exists():
                subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", stage, out], check=True)
        return out

    return packaged


@pytest.fixture(scope="session")
def unpacked(shared: Path) -> Path:
    """Where the local AWS unpacks what functions' zips hold: once a run, and compiled once."""
    directory = shared / "unpacked"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process of its own: the tracing of coverage takes most of the time, and can't follow greenlets."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool
