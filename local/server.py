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

from local.waiting import wait_until

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT_SECONDS = 30
_STOP_TIMEOUT_SECONDS = 5


class Server:
    """Patched ministack, in its own virtual environment, process group and temporary directory."""

    def __init__(self, management_account_id: str, unpacked: Path | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="rolecall-local-"))
        if unpacked is not None:
            (self._directory / "code").symlink_to(unpacked)
        self.log = self._directory / "server.log"
        try:
            self._process = self._start(management_account_id)
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        try:
            self.endpoint_url = wait_until(self._endpoint, "the local AWS organization starts", _START_TIMEOUT_SECONDS)
        except BaseException:
            self.stop()
            raise

    def control(self, name: str, **values: Any) -> Any:
        """Call a control that AWS does not have, and return its result. Raise ValueError if the server rejects it."""
        request = urllib.request.Request(f"{self.endpoint_url}/_organization/{name}", json.dumps(values).encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own server, on the loopback address
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{name} {values}: {error.read().decode()}") from error

    def stop(self) -> None:
        """Stop the process and the processes that it started, and delete the directory."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            # The rest of its group: Lambda functions that were still running.
            os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, management_account_id: str) -> "subprocess.Popen[bytes]":
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            # The user's own AWS configuration is not read, and all files are written to the directory.
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
        }
        python = _ROOT / ".venv-local/bin/python"
        if not python.exists():
            raise RuntimeError(f"{python} not found; create the virtual environment with: .ci/packages install")
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
