"""A call of AWS as botocore makes it, its caller, and the errors that it may raise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.settings import Settings

_READS = ("Get", "List", "Describe", "BatchGet", "Scan", "AssumeRole")
_SHOWN = {"AccountId", "RoleArn", "RoleName", "PolicyName", "PolicyArn", "Key", "VisibilityTimeout"}


class InvariantError(BaseException):
    """A violated invariant. Not an Exception, so that no handler of the application catches it."""


@dataclass(frozen=True)
class Call:
    """One call, and the access key that signs it."""

    operation: str
    params: Mapping[str, Any]
    access_key: str

    @property
    def name(self) -> str:
        return self.operation.partition(":")[2]

    @property
    def service(self) -> str:
        return self.operation.partition(":")[0]

    @property
    def is_read(self) -> bool:
        return self.name.startswith(_READS)

    @property
    def is_iam_write(self) -> bool:
        return self.service == "iam" and not self.is_read

    @property
    def writes_record(self) -> bool:
        """Whether the call writes or deletes `#status` or a shard's record, which only the owner of the run lease may do."""
        if self.name not in {"UpdateItem", "DeleteItem"} or self.params["TableName"] != "source-policy":
            return False
        is_lease = "#run_until" in self.params.get("ExpressionAttributeNames", {})
        return not is_lease and self.params["Key"]["policy_name"]["S"] != "#control"

    def __str__(self) -> str:
        shown = {key: value for key, value in self.params.items() if key in _SHOWN}
        return f"{self.operation} {shown}"


@dataclass
class Caller:
    """The invocation that makes a call, and what earlier responses allow it to change."""

    function: str = ""
    name: str = ""
    settings: Settings | None = None
    since: float = 0.0
    owned: dict[str, bool | None] = field(default_factory=dict)  # by ARN; None: it did not exist
    revisions: dict[str, int] = field(default_factory=dict)  # of the rows that it read
    is_killed: bool = False
    calls: int = 0


def client_error(code: str, message: str = "", status: int = 400) -> ClientError:
    """Return the error that botocore raises for an error response."""
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Simulated")
