"""Accounts, their organizational units and tags, from AWS Organizations and the Resource Groups Tagging API."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.aws.errors import account_error, error_code, translated
from chalicelib.errors import Reason, RetryableError
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_organizations.type_defs import AccountTypeDef


_TAGGED_PER_PAGE = 100  # the most that GetResources returns


class Organization:
    """The organization of the management account."""

    def __init__(self, settings: Settings, client: "OrganizationsClient", tagging: Callable[[], Any]) -> None:
        """Take the client with the function's own credentials, and a factory of the tagging API's, called if needed.

        The tagging API returns accounts in the region in which Organizations delivers its events, which is the stage's.
        """
        self._client = client
        self._tagging = tagging
        self._by_ou = settings.names_ous
        self._tag_keys = settings.tag_keys
        self._id: str | None = None
        self._reading_id = Lock()

    def describe(self, account_id: AccountId, *, with_tags: bool = True) -> Account | None:
        """Return an account, or None if Organizations answers that it is no member; its tags, if the settings select by any."""
        doing = f"describing account {account_id}"
        with translated(doing):
            try:
                answer = self._client.describe_account(AccountId=account_id)
            except ClientError as error:
                if error_code(error) == "AccountNotFoundException":
                    return None
                raise account_error(error, doing) from error
            account = self._account(answer["Account"])
            return replace(account, tags=self._tags_of(account_id)) if with_tags and self._tag_keys else account

    def _tags_of(self, account_id: AccountId) -> dict[str, str | None]:
        pages = self._client.get_paginator("list_tags_for_resource").paginate(ResourceId=account_id)
        return self._selected({tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]})

    def accounts(self, *, by_ou: bool) -> Iterator[Account]:
        """Yield every account, page by page; with `by_ou`, the OUs above each even if that takes more calls.

        Tags come from the tagging API, in pages of a hundred accounts; its index may be minutes behind.
        """
        by_ou = by_ou or self._by_ou
        tagged = self._tagged() if self._tag_keys else None
        walked: dict[str, tuple[str, ...]] | None = None
        with translated("listing the organization's accounts"):
            for page in self._client.get_paginator("list_accounts").paginate():
                for listed in page["Accounts"]:
                    account = self._account(listed, walk=False)
                    if by_ou and account.ou_ids is None:
                        walked = walked if walked is not None else dict(self._walk())
                        account = replace(account, ou_ids=walked.get(account.id, ()))
                    if tagged is not None:
                        account = replace(account, tags=tagged.get(account.id) or self._selected({}))
                    yield account

    def _tagged(self) -> dict[str, dict[str, str | None]]:
        """Return the tags of each account that has any."""
        with translated("reading the accounts' tags"):
            # Without a filter of tags: an account must match every filter of a request.
            pages = (
                self._tagging()
                .get_paginator("get_resources")
                .paginate(ResourceTypeFilters=["organizations:account"], ResourcesPerPage=_TAGGED_PER_PAGE)
            )
            return {
                resource["ResourceARN"].rpartition("/")[2]: self._selected(
                    {tag["Key"]: tag["Value"] for tag in resource["Tags"]}
                )
                for page in pages
                for resource in page["ResourceTagMappingList"]
            }

    def _selected(self, tags: Mapping[str, str]) -> dict[str, str | None]:
        return {key: tags.get(key) for key in sorted(self._tag_keys)}

    def _walk(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each account with the OUs above it, for a listing without paths."""
        roots = self._client.get_paginator("list_roots").paginate()
        pending: list[tuple[str, tuple[str, ...]]] = [(root["Id"], ()) for page in roots for root in page["Roots"]]
        while pending:
            parent, above = pending.pop()
            for accounts in self._client.get_paginator("list_accounts_for_parent").paginate(ParentId=parent):
                yield from ((account["Id"], above) for account in accounts["Accounts"])
            for units in self._client.get_paginator("list_organizational_units_for_parent").paginate(ParentId=parent):
                pending += [(unit["Id"], (*above, unit["Id"])) for unit in units["OrganizationalUnits"]]

    def organization_id(self) -> str:
        """Return the organization's id; it is read once, since Organizations allows one such call a second."""
        if self._id is None:
            with translated("describing the organization"):
                self._id = self._client.describe_organization()["Organization"]["Id"]
        return self._id

    def id_of(self, account_id: AccountId) -> str:
        """Return the organization's id from the ARN of a member. Only the first call describes the account."""
        with self._reading_id:
            if self._id is None:
                self.describe(account_id, with_tags=False)
        if self._id is None:
            raise RetryableError(Reason.NOT_READY, f"not ready yet: Organizations has no account {account_id}")
        return self._id

    def _account(self, listed: "AccountTypeDef", *, walk: bool = True) -> Account:
        account_id, paths = AccountId(listed["Id"]), listed.get("Paths")
        ou_ids: tuple[str, ...] | None = None
        if paths:
            ou_ids = tuple(part for path in paths for part in path.split("/") if part.startswith("ou-"))
        elif self._by_ou and walk:
            ou_ids = self._walk_up(account_id)
        self._id = listed.get("Arn", "").partition(":account/")[2].partition("/")[0] or self._id
        return Account(
            id=account_id,
            name=listed.get("Name", ""),
            # Status is replaced by State, and was announced to be removed in September 2026.
            state=listed.get("State") or listed.get("Status", "ACTIVE"),
            joined_at=listed.get("JoinedTimestamp"),
            ou_ids=ou_ids,
        )

    def _walk_up(self, account_id: AccountId) -> tuple[str, ...]:
        """Return the OUs above an account that was described without paths."""
        found: list[str] = []
        child: str = account_id
        while True:
            pages = self._client.get_paginator("list_parents").paginate(ChildId=child)
            parent = next(parent for page in pages for parent in page["Parents"])
            if parent["Type"] == "ROOT":
                return tuple(reversed(found))
            child = parent["Id"]
            found.append(child)
