"""What Organizations knows of an account."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.aws.failures import account_error, error_code, translated
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_organizations.type_defs import AccountTypeDef


class Organization:
    """The organization that the management account leads."""

    def __init__(self, settings: Settings, client: "OrganizationsClient") -> None:
        """Take the client that the function's own role signs for."""
        self._client = client
        self._by_ou = bool(settings.include_ou_ids or settings.exclude_ou_ids)
        self._id: str | None = None

    def describe(self, account_id: AccountId) -> Account | None:
        """Describe an account, or tell by None that it is no member; only Organizations' own word counts for that."""
        doing = f"describing account {account_id}"
        with translated(doing):
            try:
                answer = self._client.describe_account(AccountId=account_id)
            except ClientError as error:
                if error_code(error) == "AccountNotFoundException":
                    return None
                raise account_error(error, doing) from error
            return self._account(answer["Account"])

    def organization_id(self) -> str:
        """Tell the organization's id; asked once, since Organizations answers this one call a second."""
        if self._id is None:
            with translated("describing the organization"):
                self._id = self._client.describe_organization()["Organization"]["Id"]
        return self._id

    def _account(self, told: "AccountTypeDef") -> Account:
        account_id = AccountId(told["Id"])
        return Account(
            id=account_id,
            name=told.get("Name", ""),
            # Status is what State replaces; it was to be retired in September 2026.
            state=told.get("State") or told.get("Status", "ACTIVE"),
            joined_at=told.get("JoinedTimestamp"),
            ou_ids=self._ou_ids(account_id, told.get("Paths", [])) if self._by_ou else (),
        )

    def _ou_ids(self, account_id: AccountId, paths: list[str]) -> tuple[str, ...]:
        if paths:
            return tuple(part for path in paths for part in path.split("/") if part.startswith("ou-"))
        found: list[str] = []
        child: str = account_id
        while True:
            parent = self._client.list_parents(ChildId=child)["Parents"][0]
            if parent["Type"] == "ROOT":
                return tuple(reversed(found))
            child = parent["Id"]
            found.append(child)
