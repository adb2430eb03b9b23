"""Errors that a test expects from AWS."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def rejected(code: str, message: str | None = None) -> Iterator[None]:
    """Expect an error with a code and a message that matches."""
    with pytest.raises(ClientError, match=message) as raised:
        yield
    assert raised.value.response["Error"]["Code"] == code


@contextmanager
def denied(action: str) -> Iterator[None]:
    """Expect that an action isn't authorized."""
    with pytest.raises(ClientError, match=f"not authorized to perform: {action}") as raised:
        yield
    assert raised.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
