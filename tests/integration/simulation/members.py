"""Organizations and the tagging API in memory: the member accounts, their state, organizational unit and a tag."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.integration.simulation.calls import client_error

MANAGEMENT = "111122223333"
ORGANIZATION_ID = "o-simulated00"
ROOT = "r-ab12"
IDS = tuple(f"{number:012}" for number in range(1, 7))
UNKNOWN_ACCOUNT = "777777777777"  # never a member
UNITS = ("ou-ab12-11111111", "ou-ab12-22222222")
ENVIRONMENTS = ("prod", "dev")
PAGE = 3  # accounts of a page; other calls come between pages


@dataclass(frozen=True)
class Member:
    """A member account; `env` is the value of its tag of that key."""

    id: str
    state: str = "ACTIVE"
    joined_at: float = 0.0
    unit: str | None = None
    env: str | None = None


@dataclass
class Members:
    """The member accounts by id, and their history."""

    now: float = 0.0
    read_at: float | None = None  # the time as of which reads are answered; None for now
    indexed_at: float | None = None  # the time as of which the tagging API answers; None for now
    members: dict[str, Member] = field(default_factory=dict)
    history: dict[str, list[tuple[float, Member | None]]] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)  # accounts that may be entered: every former and current member
    returns_paths: bool = True
    page: int = PAGE

    def join(self, account_id: str, unit: str | None = None, env: str | None = None) -> None:
        self._put(account_id, Member(account_id, joined_at=self.now, unit=unit, env=env))
        self.confirmed.add(account_id)

    def leave(self, account_id: str) -> None:
        self._put(account_id, None)

    def change(self, account_id: str, **changes: Any) -> None:
        self._put(account_id, replace(self.members[account_id], **changes))

    def _put(self, account_id: str, member: Member | None) -> None:
        self.history.setdefault(account_id, []).append((self.now, member))
        self.members.pop(account_id, None)
        if member is not None:
            self.members[account_id] = member

    def _read(self) -> dict[str, Member]:
        return self.members if self.read_at is None else self._as_of(self.read_at)

    def _as_of(self, time: float) -> dict[str, Member]:
        then = {key: [each for at, each in past if at <= time][-1:] for key, past in self.history.items()}
        return {key: each[0] for key, each in then.items() if each and each[0] is not None}

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def _DescribeAccount(self, params: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        member = self._read().get(params["AccountId"])
        if member is None:
            raise client_error("AccountNotFoundException", "You specified an account that doesn't exist.")
        return {"Account": self._account(member)}

    def _ListAccounts(self, params: Any) -> dict[str, Any]:  # noqa: N802
        after, members = params.get("NextToken", ""), self._read()
        ids = sorted(each for each in members if each > after)
        page = {"Accounts": [self._account(members[each]) for each in ids[: self.page]]}
        return page | ({"NextToken": ids[self.page - 1]} if len(ids) > self.page else {})

    def _DescribeOrganization(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Organization": {"Id": ORGANIZATION_ID}}

    def _ListParents(self, params: Any) -> dict[str, Any]:  # noqa: N802
        member = self._read().get(params["ChildId"])
        if params["ChildId"] not in UNITS and member is None:
            raise client_error("ChildNotFoundException", "no such child")
        unit = member.unit if member else None
        return {"Parents": [{"Id": unit, "Type": "ORGANIZATIONAL_UNIT"} if unit else {"Id": ROOT, "Type": "ROOT"}]}

    def _ListRoots(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Roots": [{"Id": ROOT}]}

    def _ListAccountsForParent(self, params: Any) -> dict[str, Any]:  # noqa: N802
        parent = None if params["ParentId"] == ROOT else params["ParentId"]
        return {"Accounts": [self._account(each) for each in self._read().values() if each.unit == parent]}

    def _ListOrganizationalUnitsForParent(self, params: Any) -> dict[str, Any]:  # noqa: N802
        return {"OrganizationalUnits": [{"Id": each} for each in UNITS] if params["ParentId"] == ROOT else []}

    def _ListTagsForResource(self, params: Any) -> dict[str, Any]:  # noqa: N802
        member = self._read().get(params["ResourceId"])
        if member is None:
            raise client_error("TargetNotFoundException", "You specified a target that doesn't exist.")
        return {"Tags": _tags(member)}

    def _GetResources(self, params: Any) -> dict[str, Any]:  # noqa: N802
        members = self.members if self.indexed_at is None else self._as_of(self.indexed_at)
        after = params.get("PaginationToken", "")
        tagged = sorted(key for key, member in members.items() if member.env is not None and key > after)
        arn = f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION_ID}/"
        found = [{"ResourceARN": arn + key, "Tags": _tags(members[key])} for key in tagged[:PAGE]]
        return {"ResourceTagMappingList": found, "PaginationToken": tagged[PAGE - 1] if len(tagged) > PAGE else ""}

    def _account(self, member: Member) -> dict[str, Any]:
        account: dict[str, Any] = {
            "Id": member.id,
            "Arn": f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION_ID}/{member.id}",
            "Name": f"Account {member.id}",
            "State": member.state,
            "JoinedTimestamp": datetime.fromtimestamp(member.joined_at, UTC),
        }
        if self.returns_paths:
            path = [ORGANIZATION_ID, ROOT, *([member.unit] if member.unit else []), member.id, ""]
            account["Paths"] = ["/".join(path)]
        return account


def _tags(member: Member) -> list[dict[str, str]]:
    return [{"Key": "env", "Value": member.env}] if member.env is not None else []
