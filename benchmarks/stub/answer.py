"""What a stubbed service answers, in the two protocols that the services speak."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    content_type: bytes = b"text/xml"


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of the stub
    """A service's answer that is an error."""

    def __init__(self, code: str, status: int = 400, **fields: Any) -> None:  # noqa: ANN401 - any JSON
        super().__init__(code)
        self.code = code
        self.status = status
        self.fields = fields


def xml(action: str, result: str = "") -> Answer:
    """Answer in the query protocol."""
    inner = f"<{action}Result>{result}</{action}Result>" if result else ""
    return Answer(
        f"<{action}Response>{inner}<ResponseMetadata><RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId>"
        f"</ResponseMetadata></{action}Response>".encode()
    )


def xml_refusal(refusal: Refusal) -> Answer:
    """Answer an error in the query protocol."""
    return Answer(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{refusal.code}</Code><Message>{refusal.code}</Message></Error>"
        "<RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ErrorResponse>".encode(),
        refusal.status,
    )


_JSON = b"application/x-amz-json-1.0"


def as_json(content: dict[str, Any]) -> Answer:
    """Answer in the JSON protocol."""
    return Answer(json.dumps(content, separators=(",", ":")).encode(), content_type=_JSON)


def json_refusal(refusal: Refusal) -> Answer:
    """Answer an error in the JSON protocol."""
    content = {"__type": refusal.code, "message": refusal.code, **refusal.fields}
    return Answer(json.dumps(content).encode(), refusal.status, _JSON)


def raw_json(body: bytes) -> Answer:
    """Answer what is JSON already."""
    return Answer(body, content_type=_JSON)
