"""How AWS is asked and answers at botocore's boundary, and the rules that the simulation sees kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError


class RuleBrokenError(BaseException):
    """A rule that must always hold doesn't; no Exception, so that the application's own handlers let it pass."""


@dataclass(frozen=True)
class Call:
    """One call of AWS, by whose access key it is signed."""

    operation: str
    params: Mapping[str, Any]
    access_key: str

    @property
    def name(self) -> str:
        return self.operation.partition(":")[2]

    @property
    def service(self) -> str:
        return self.operation.partition(":")[0]

    def __str__(self) -> str:
        told = {
            key: value
            for key, value in self.params.items()
            if key in {"AccountId", "RoleArn", "RoleName", "PolicyName", "PolicyArn", "Key", "VisibilityTimeout"}
        }
        return f"{self.operation} {told}"


def refusal(code: str, message: str = "", status: int = 400) -> ClientError:
    """Make the error that botocore makes of AWS's answer."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Simulated")
