"""Organizations and the tagging API: a configurable number of accounts with one tag, in pages, with a rate limit."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.deployment import MANAGEMENT
from benchmarks.stub.response import Response, ServiceError, raw_json_response
from benchmarks.stub.role_states import RoleState, account_id

PAGE = 20
"""Accounts of a page of ListAccounts (its MaxResults)."""

TAGGED_PAGE = 100
"""Accounts of a page of GetResources (its ResourcesPerPage)."""

TAG = {"Key": "env", "Value": "prod"}
"""The tag of every account."""


@dataclass(slots=True)
class Bucket:
    """A token bucket."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _tokens: float = 0.0
    _refilled_at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens, self._refilled_at = self.burst, self.clock()

    def take(self) -> bool:
        """Take a token; return False if there is none."""
        now = self.clock()
        self._tokens = min(self.burst, self._tokens + (now - self._refilled_at) * self.rate)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Organization:
    """The organization of the management account."""

    role_state: RoleState = RoleState.NEW
    accounts: int = 0
    listing: Bucket | None = None

    def handle(self, operation: str, content: dict[str, Any]) -> Response:
        """Return the response to a call of Organizations or the tagging API."""
        match operation:
            case "ListAccounts":
                if self.listing is not None and not self.listing.take():
                    raise ServiceError("TooManyRequestsException")
                return self._page(int(content.get("NextToken", "0")))
            case "GetResources":
                return self._tagged_page(int(content.get("PaginationToken") or 0))
            case "ListTagsForResource":
                return raw_json_response(json.dumps({"Tags": [TAG]}).encode())
            case "DescribeAccount":
                return raw_json_response(b'{"Account":' + _account(content["AccountId"]) + b"}")
            case "DescribeOrganization":
                return raw_json_response(
                    json.dumps({"Organization": {"Id": "o-benchmarks", "MasterAccountId": MANAGEMENT}}).encode()
                )
            case _:
                raise ServiceError("UnknownOperationException")

    def _page(self, first: int) -> Response:
        last = min(first + PAGE, self.accounts)
        accounts = b",".join(_account(account_id(self.role_state, number)) for number in range(first, last))
        following = b',"NextToken":"%d"' % last if last < self.accounts else b""
        return raw_json_response(b'{"Accounts":[' + accounts + b"]" + following + b"}")

    def _tagged_page(self, first: int) -> Response:
        last = min(first + TAGGED_PAGE, self.accounts)
        found = [_arn(account_id(self.role_state, number)) for number in range(first, last)]
        resources = [{"ResourceARN": arn, "Tags": [TAG]} for arn in found]
        token = str(last) if last < self.accounts else ""
        return raw_json_response(json.dumps({"ResourceTagMappingList": resources, "PaginationToken": token}).encode())


def _arn(account_id: str) -> str:
    return f"arn:aws:organizations::{MANAGEMENT}:account/o-benchmarks/{account_id}"


def _account(account_id: str) -> bytes:
    return (
        f'{{"Id":"{account_id}","Arn":"{_arn(account_id)}",'
        f'"Email":"{account_id}@example.com","Name":"Account {account_id}","Status":"ACTIVE","State":"ACTIVE",'
        '"JoinedMethod":"CREATED","JoinedTimestamp":1704067200.0,'
        f'"Paths":["o-benchmarks/r-ab12/ou-ab12-11111111/{account_id}/"]}}'
    ).encode()
