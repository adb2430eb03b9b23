"""Serve the local AWS organization on a free loopback port until the standard input closes, which is when its owner is gone.

Usage: python local/emulator MANAGEMENT_ACCOUNT_ID DIRECTORY

Everything it writes stays in DIRECTORY; the file `endpoint` there holds its address.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

# The functions' processes get this one's environment, not its path: the checkout must not lend them what their zip lacks.
sys.path[0] = str(Path(__file__).parent.parent)


def _configure(management_account_id: str, directory: Path, port: int) -> None:
    """Set what ministack reads from the environment while it is imported."""
    os.environ.update(
        AUTH="true",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=management_account_id,
        MINISTACK_REGION="us-east-1",
        S3_DATA_DIR=str(directory / "s3"),
        STATE_DIR=str(directory / "state"),
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        LOG_LEVEL="WARNING",
    )


def _stop_when_the_owner_is_gone() -> None:
    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _leave_nothing(directory: Path) -> None:
    """Do what the owner does, in case it is gone: end the functions, and remove the directory."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Bind a port first, so that nothing else can take it, and tell where once everything is mended."""
    management_account_id, directory = sys.argv[1], Path(sys.argv[2])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        _configure(management_account_id, directory, port)
        from emulator import server  # noqa: PLC0415 - ministack reads its configuration while it is imported

        del os.environ["LOG_LEVEL"]  # The functions, which inherit the environment, choose their own.
        _stop_when_the_owner_is_gone()
        announced = directory / "endpoint.new"
        announced.write_text(f"http://127.0.0.1:{port}")
        announced.rename(directory / "endpoint")
        try:
            asyncio.run(server.serve(listener.fileno()))
        finally:
            _leave_nothing(directory)


main()
