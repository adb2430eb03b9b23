"""Serve the local AWS organization on a free loopback port until standard input closes: when the parent exits.

Usage: python local/emulator MANAGEMENT_ACCOUNT_ID DIRECTORY

All files are written to DIRECTORY; the file `endpoint` there contains the server's URL.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

# Function processes inherit the environment, not this path: they must not import modules that their zip lacks.
sys.path[0] = str(Path(__file__).parent.parent)


def _configure(management_account_id: str, directory: Path, port: int) -> None:
    """Set the environment variables that ministack reads at import time."""
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


def _stop_with_parent() -> None:
    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()


def _clean_up(directory: Path) -> None:
    """Stop the functions and delete the directory, which the parent can't do if it was killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Bind a port, so that no other process can take it, and write the endpoint file once everything is patched."""
    management_account_id, directory = sys.argv[1], Path(sys.argv[2])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        _configure(management_account_id, directory, port)
        from emulator import server  # noqa: PLC0415 - ministack reads its configuration while it is imported

        del os.environ["LOG_LEVEL"]  # The functions inherit the environment and have their own log level.
        _stop_with_parent()
        incomplete = directory / "endpoint.new"
        incomplete.write_text(f"http://127.0.0.1:{port}")
        incomplete.rename(directory / "endpoint")
        try:
            asyncio.run(server.serve(listener.fileno()))
        finally:
            _clean_up(directory)


main()
