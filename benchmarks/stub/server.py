"""The stub as an HTTP server: one process, one thread, raw sockets, since what it costs must not be what is measured."""

import asyncio
import json
from typing import Any, cast

from benchmarks.stub.answer import Answer, raw_json
from benchmarks.stub.aws import Aws
from benchmarks.stub.kinds import Kind
from benchmarks.stub.organizations import Bucket, Organization
from benchmarks.stub.rows import ledger_rows

_HEAD_END = b"\r\n\r\n"
_CONTROL = b"/_stub"


class Stub:
    """AWS after some latency, and what it should be now."""

    def __init__(self) -> None:
        """Start without latency and with nothing in the tables."""
        self.latency = 0.0
        self.aws = Aws()

    def control(self, body: bytes) -> Answer:
        """Begin anew with other conditions, change the latency, put rows, or return what was seen since."""
        if not body:
            return raw_json(json.dumps(self.aws.seen()).encode())
        asked: dict[str, Any] = json.loads(body)
        self.latency = asked.get("latency", self.latency)
        if "throttle_every" in asked:
            self.aws.throttle_every = asked["throttle_every"]
        if "rows" in asked:
            rows = asked["rows"]
            numbers = range(rows["start"], rows["start"] + rows["count"])
            self.aws.tables.put(*ledger_rows(Kind(rows["kind"]), numbers, in_force=rows["in_force"]))
        elif "accounts" in asked:
            self._begin(asked)
        return raw_json(b"{}")

    def _begin(self, asked: dict[str, Any]) -> None:
        rate = asked["listing_rate"]
        listing = Bucket(rate, asked["listing_burst"]) if rate else None
        organization = Organization(Kind(asked["kind"]), asked["accounts"], listing)
        self.aws = Aws(throttle_every=asked["throttle_every"], organization=organization)


class Connection(asyncio.Protocol):
    """One client's connection, on which one request follows the other."""

    def __init__(self, stub: Stub, loop: asyncio.AbstractEventLoop) -> None:
        """Take what answers, and the loop that lets its latency pass."""
        self._stub = stub
        self._loop = loop
        self._waiting = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take in what came; answer once a request is whole."""
        self._waiting += data
        end = self._waiting.find(_HEAD_END)
        if end < 0:
            return
        head = bytes(self._waiting[:end])
        length = int(_header(head, b"\r\ncontent-length:") or 0)
        if len(self._waiting) < end + len(_HEAD_END) + length:
            return
        body = bytes(self._waiting[end + len(_HEAD_END) : end + len(_HEAD_END) + length])
        self._waiting.clear()  # A client waits for the answer before it asks again.
        if head.split(b" ", 2)[1] == _CONTROL:
            self._send(self._stub.control(body))
            return
        answer = self._stub.aws.answer(_header(head, b"\r\nx-amz-target:"), _header(head, b"\r\nauthorization:"), body)
        if self._stub.latency:
            self._loop.call_later(self._stub.latency, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d X\r\nx-amzn-RequestId: 7a62c49f\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (answer.status, answer.content_type, len(answer.body), answer.body)
            )


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(name)
    if start < 0:
        return b""
    start += len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
