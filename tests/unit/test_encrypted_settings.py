"""The functions' environment, which Lambda returns only to callers who may decrypt it."""

from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from rolecall.errors import CommandError
from rolecall.stage import Stage


def test_settings_that_lambda_cannot_decrypt_for_the_caller_are_an_error() -> None:
    session = boto3.Session("key", "secret", region_name="us-east-1")
    denied = {
        "ErrorCode": "AccessDeniedException",
        "Message": "Lambda was unable to decrypt your environment variables",
    }
    answer: Any = (SimpleNamespace(status_code=200), {"Environment": {"Error": denied}})
    session.events.register("before-call.lambda.GetFunctionConfiguration", lambda **_: answer)

    with pytest.raises(CommandError, match=r"Lambda was unable to decrypt .*allow kms:Decrypt on the key"):
        _ = Stage("dev", session).environment
