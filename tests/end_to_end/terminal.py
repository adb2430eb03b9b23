"""A command on a terminal: what it shows there, what is typed, and Ctrl-C."""

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
    """Runs `rolecall` on a terminal of its own; leaving the context waits until it has ended, and keeps all it showed."""

    def __init__(self, rolecall: CommandLine, *arguments: str) -> None:
        self._master, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rolecall", "--stage", rolecall.stage, *arguments],
            cwd=ROOT,
            env=rolecall.environment(TERM="xterm-256color"),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._read = b""
        # What isn't read would stop the command in the middle of its output.
        self._reader = threading.Thread(target=self._keep_reading)
        self._reader.start()

    def _keep_reading(self) -> None:
        while True:
            try:
                read = os.read(self._master, 65536)
            except OSError:  # The command has ended, and nobody holds the terminal any more.
                return
            self._read += read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.status = self._process.wait(TIMEOUT_SECONDS)
        self._reader.join()
        os.close(self._master)

    @property
    def shown(self) -> str:
        return self._read.decode(errors="replace")

    def shows(self, text: str) -> None:
        """Wait until it shows some text."""
        wait_until(lambda: text in self.shown, f"the terminal shows {text!r}", TIMEOUT_SECONDS)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
