"""CloudFormation stacks that contain a role, in the account that has been entered."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.aws.errors import account_error, error_code, translated
from chalicelib.errors import AccountError, Reason, TerminalError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

_NOT_ENABLED = {"InvalidClientTokenId", "UnrecognizedClientException", "OptInRequired"}
_MAX_RETURNED = 100  # resources of the stack ("DescribeStackResources", API reference)
_GIVEN_UP = {"DELETE_COMPLETE", "DELETE_SKIPPED"}  # the latter by DeletionPolicy: Retain


class Stacks:
    """Finds the stack that contains a role, by calling CloudFormation in every region.

    A role has no tags aws:cloudformation:*. It is global, and its stack is in any region. See
    docs/adr/0035-ask-cloudformation-before-adopting-a-role.md.
    """

    def __init__(self, clients: Callable[[], Mapping[str, "CloudFormationClient"]]) -> None:
        """Take a factory of the entered account's clients by region; few deployments need them."""
        self._create = clients
        self._clients: Mapping[str, CloudFormationClient] = {}
        self._lock = Lock()

    def owner(self, role_arn: str) -> str | None:
        """Return the name and region of the stack that contains a role, or None. Raise AccountError if that is unknown.

        Regions that are not enabled, or that a service control policy denies, are left out, unless that is all of them.
        """
        answers: list[str | None] = []
        unknown: AccountError = TerminalError(
            Reason.REJECTED, f"there is no region in which to look for the stack of {role_arn}"
        )
        for region, client in self._regional().items():
            doing = f"looking in {region} for the stack that contains {role_arn}"
            with translated(doing):
                try:
                    answers.append(_owner(client, role_arn.rpartition("/")[2]))
                except ClientError as error:
                    failure = account_error(error, doing)
                    if error_code(error) not in _NOT_ENABLED and failure.reason is not Reason.SCP_DENIED:
                        raise failure from error
                    unknown = failure
                    continue
            if answers[-1] is not None:
                return f"{answers[-1]} in {region}"
        if not answers:
            raise unknown
        return None

    def _regional(self) -> Mapping[str, "CloudFormationClient"]:
        with self._lock:
            self._clients = self._clients or self._create()
        return self._clients


def _owner(client: "CloudFormationClient", name: str) -> str | None:
    try:
        found = client.describe_stack_resources(PhysicalResourceId=name)["StackResources"]
    except ClientError as error:
        # "Stack for … does not exist": no stack of the region contains a resource of this name.
        if error_code(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    # Of any type: CloudFormation finds one of the resources that have the same name.
    named = [each for each in found if each.get("PhysicalResourceId") == name]
    if not named and len(found) >= _MAX_RETURNED:
        return found[0]["StackName"]  # which contains the role, among those that are not returned
    return next((each["StackName"] for each in named if each["ResourceStatus"] not in _GIVEN_UP), None)
