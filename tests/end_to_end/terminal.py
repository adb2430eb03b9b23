"""A command on a pseudo-terminal: its output, typed input, and Ctrl-C."""

import os
import pty
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from local.waiting import wait_until
from tests.end_to_end.command_line import ROOT, CommandLine
from tests.end_to_end.deployed_stage import TIMEOUT_SECONDS


class Terminal:
    """Runs `rolecall` on its own terminal; the context waits for its end and keeps its output."""

    def __init__(self, rolecall: CommandLine, *arguments: str) -> None:
        self._controller, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rolecall", "--stage", rolecall.stage, *arguments],
            cwd=ROOT,
            env=rolecall.environment(TERM="xterm-256color"),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._bytes = b""
        # Read all the time: the command would block on unread output.
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._controller, 65536)
            except OSError:  # The command has ended.
                return
            self._bytes += read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.status = self._process.wait(TIMEOUT_SECONDS)
        self._thread.join()
        os.close(self._controller)

    @property
    def output(self) -> str:
        return self._bytes.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the output contains a text."""
        wait_until(lambda: text in self.output, f"the terminal shows {text!r}", TIMEOUT_SECONDS)

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def interrupt(self) -> None:
        """Send the signal of Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
