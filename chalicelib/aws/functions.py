"""The one function that another invokes: freeze runs publish at once."""

import json
from typing import TYPE_CHECKING

from chalicelib.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class PublishFunction:
    """The publish function."""

    def __init__(self, client: "LambdaClient", name: str) -> None:
        """Take a client and the function's name."""
        self._client = client
        self._name = name

    def invoke(self) -> None:
        """Run publish and wait until it returns, also if another run holds the lease.

        Raise AccountError if it can't be invoked, or takes longer than `invoke_config` waits.
        """
        with translated(f"invoking {self._name}"):
            self._client.invoke(
                FunctionName=self._name, InvocationType="RequestResponse", Payload=json.dumps({"Records": []})
            )
