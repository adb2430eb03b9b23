"""The lines of --debug: each call with its status and request id, and nothing that a request or a response contains."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
import pytest
from botocore.exceptions import ClientError

from rolecall.call_log import log_calls
from rolecall.clients import ClientFactory

DENIED = b'{"__type": "AccessDeniedException", "Message": "no secret"}'


class Denying(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers["X-Amz-Target"].endswith("DescribeOrganization")
        body = b'{"Organization": {"Id": "o-secret"}}' if allowed else DENIED
        self.send_response(200 if allowed else 400)
        self.send_header("x-amzn-RequestId", "id-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


def test_calls_are_logged_with_status_and_request_id() -> None:
    session, written = boto3.Session("key", "secret", region_name="us-east-1"), list[str]()
    log_calls(session, written.append)
    with HTTPServer(("127.0.0.1", 0), Denying) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            organizations = ClientFactory(session, f"http://127.0.0.1:{server.server_port}")("organizations")
            organizations.describe_organization()
            with pytest.raises(ClientError):
                organizations.list_roots()
        finally:
            server.shutdown()
            thread.join()
    assert written == [
        "organizations:DescribeOrganization: 200, request id id-1",
        "organizations:ListRoots: AccessDeniedException, request id id-1",
    ]
