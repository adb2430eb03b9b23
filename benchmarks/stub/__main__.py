"""Serve the stub on a free port of the loopback interface, until standard input is closed: `python -m benchmarks.stub`."""

import asyncio
import gc
import sys

from benchmarks.stub.server import Connection, Stub


async def serve() -> None:
    """Print the port to standard output, then serve requests."""
    loop = asyncio.get_running_loop()
    stub = Stub()
    server = await loop.create_server(lambda: Connection(stub, loop), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent process closes standard input, or has exited.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


gc.freeze()
asyncio.run(serve())
