"""The process that serves the local AWS organization."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.waiting import until

_ROOT = Path(__file__).parent.parent
_STARTING = 30
_STOPPING = 5


class Server:
    """Runs ministack, mended, in its own virtual environment, process group and temporary directory."""

    def __init__(self, management_account_id: str, unpacked: Path | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="rolecall-local-"))
        if unpacked is not None:
            (self._directory / "code").symlink_to(unpacked)
        self.log = self._directory / "server.log"
        try:
            self._process = self._started(management_account_id)
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        try:
            self.endpoint_url = until(self._endpoint, "the local AWS organization starts", _STARTING)
        except BaseException:
            self.stop()
            raise

    def control(self, name: str, **values: Any) -> None:
        """Turn a switch that AWS does not have."""
        request = urllib.request.Request(f"{self.endpoint_url}/_organization/{name}", json.dumps(values).encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - our own server, on the loopback address
                pass
        except urllib.error.HTTPError as error:
            raise ValueError(f"{name} {values}: {error.read().decode()}") from error

    def stop(self) -> None:
        """Stop the process and what it started, and leave nothing on disk."""
        self._process.terminate()
        try:
            self._process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            # What is left of its group: Lambda functions that were still at work.
            os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _started(self, management_account_id: str) -> "subprocess.Popen[bytes]":
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            # No AWS configuration of the person's own is read, and all that is written goes away with the directory.
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
        }
        python = _ROOT / ".venv-local/bin/python"
        if not python.exists():
            raise RuntimeError(
                f"there is no {python} to run the local AWS organization on: make .venv-local/up-to-date makes it"
            )
        command = [
            str(python),
            str(_ROOT / "local/emulator"),
            management_account_id,
            str(self._directory),
        ]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._directory,
                start_new_session=True,
            )

    def _endpoint(self) -> str | None:
        if self._process.poll() is not None:
            raise RuntimeError(f"the local AWS organization did not start:\n{self.log.read_text()[-4000:]}")
        try:
            endpoint = (self._directory / "endpoint").read_text()
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=5):  # noqa: S310
                return endpoint
        except (FileNotFoundError, urllib.error.URLError, TimeoutError):
            return None
