"""What AWS refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def refused(code: str, saying: str | None = None) -> Iterator[None]:
    with pytest.raises(ClientError, match=saying) as raised:
        yield
    assert raised.value.response["Error"]["Code"] == code


@contextmanager
def denied(action: str) -> Iterator[None]:
    with pytest.raises(ClientError, match=f"not authorized to perform: {action}") as raised:
        yield
    assert raised.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
