"""Serve the stub on a free port of the loopback interface, until the standard input ends: `python -m benchmarks.stub`."""

import asyncio
import gc
import sys

from benchmarks.stub.server import Connection, Stub


async def serve() -> None:
    """Tell the port on the standard output, then answer."""
    loop = asyncio.get_running_loop()
    stub = Stub()
    server = await loop.create_server(lambda: Connection(stub, loop), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started it has gone, or wants it to end.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


gc.freeze()
asyncio.run(serve())
