"""The stub's HTTP server: one process, one thread and raw sockets, to keep its own cost small."""

import asyncio
import json
from typing import Any, cast

from benchmarks.stub.aws import Aws
from benchmarks.stub.organizations import Bucket, Organization
from benchmarks.stub.response import Response, raw_json_response
from benchmarks.stub.role_states import RoleState
from benchmarks.stub.rows import ledger_rows

_HEAD_END = b"\r\n\r\n"
_CONTROL = b"/_stub"


class Stub:
    """The stubbed AWS, its latency, and the control requests that configure it."""

    def __init__(self) -> None:
        """Start without latency and with empty tables."""
        self.latency = 0.0
        self.aws = Aws()

    def control(self, body: bytes) -> Response:
        """Apply a control request: reset, change the latency or throttling, put rows, or return the counts."""
        if not body:
            return raw_json_response(json.dumps(self.aws.counts()).encode())
        request: dict[str, Any] = json.loads(body)
        self.latency = request.get("latency", self.latency)
        if "throttle_every" in request:
            self.aws.throttle_every = request["throttle_every"]
        if "rows" in request:
            rows = request["rows"]
            numbers = range(rows["start"], rows["start"] + rows["count"])
            self.aws.tables.put(*ledger_rows(RoleState(rows["role_state"]), numbers, in_force=rows["in_force"]))
        elif "accounts" in request:
            self._reset(request)
        return raw_json_response(b"{}")

    def _reset(self, request: dict[str, Any]) -> None:
        rate = request["listing_rate"]
        listing = Bucket(rate, request["listing_burst"]) if rate else None
        organization = Organization(RoleState(request["role_state"]), request["accounts"], listing)
        self.aws = Aws(throttle_every=request["throttle_every"], organization=organization)


class Connection(asyncio.Protocol):
    """A client's connection, with one request at a time."""

    def __init__(self, stub: Stub, loop: asyncio.AbstractEventLoop) -> None:
        """Take the stub, and the event loop that delays its responses."""
        self._stub = stub
        self._loop = loop
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Buffer the data; respond once a request is complete."""
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        length = int(_header(head, b"\r\ncontent-length:") or 0)
        if len(self._buffer) < end + len(_HEAD_END) + length:
            return
        body = bytes(self._buffer[end + len(_HEAD_END) : end + len(_HEAD_END) + length])
        self._buffer.clear()  # Clients send no request before the response to the last one.
        if head.split(b" ", 2)[1] == _CONTROL:
            self._send(self._stub.control(body))
            return
        response = self._stub.aws.handle(
            _header(head, b"\r\nx-amz-target:"), _header(head, b"\r\nauthorization:"), body
        )
        if self._stub.latency:
            self._loop.call_later(self._stub.latency, self._send, response)
        else:
            self._send(response)

    def _send(self, response: Response) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d X\r\nx-amzn-RequestId: 7a62c49f\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (response.status, response.content_type, len(response.body), response.body)
            )


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(name)
    if start < 0:
        return b""
    start += len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
