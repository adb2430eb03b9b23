"""Responses of the stubbed services in the query and JSON protocols."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    body: bytes
    status: int = 200
    content_type: bytes = b"text/xml"


class ServiceError(Exception):  # a response, not a failure of the stub
    """An error response of a service."""

    def __init__(self, code: str, status: int = 400, **fields: Any) -> None:  # noqa: ANN401 - any JSON
        super().__init__(code)
        self.code = code
        self.status = status
        self.fields = fields


def xml_response(action: str, result: str | None = None) -> Response:
    """Build a response in the query protocol; most actions that write have no result."""
    inner = f"<{action}Result>{result}</{action}Result>" if result is not None else ""
    return Response(
        f"<{action}Response>{inner}<ResponseMetadata><RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId>"
        f"</ResponseMetadata></{action}Response>".encode()
    )


def xml_error(error: ServiceError) -> Response:
    """Build an error response in the query protocol."""
    return Response(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code><Message>{error.code}</Message></Error>"
        "<RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ErrorResponse>".encode(),
        error.status,
    )


_JSON = b"application/x-amz-json-1.0"


def json_response(content: dict[str, Any]) -> Response:
    """Build a response in the JSON protocol."""
    return Response(json.dumps(content, separators=(",", ":")).encode(), content_type=_JSON)


def json_error(error: ServiceError) -> Response:
    """Build an error response in the JSON protocol."""
    content = {"__type": error.code, "message": error.code, **error.fields}
    return Response(json.dumps(content).encode(), error.status, _JSON)


def raw_json_response(body: bytes) -> Response:
    """Build a response from encoded JSON."""
    return Response(body, content_type=_JSON)
