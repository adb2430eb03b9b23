"""Organizations in memory: who is a member, in which state, in which organizational unit."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.integration.simulation.answers import refusal

MANAGEMENT = "111122223333"
ORGANIZATION_ID = "o-simulated00"
ROOT = "r-ab12"
PAGE = 3  # accounts of a listing's page: others come between pages


@dataclass(frozen=True)
class Member:
    """An account as Organizations knows it."""

    id: str
    state: str = "ACTIVE"
    joined_at: float = 0.0
    unit: str | None = None


@dataclass
class Members:
    """The organization, its members by id, and everybody who ever was one."""

    now: float = 0.0
    seen_at: float | None = None  # at which time reads see what there was; now if None
    members: dict[str, Member] = field(default_factory=dict)
    past: dict[str, list[tuple[float, Member | None]]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    units: list[str] = field(default_factory=lambda: ["ou-ab12-11111111", "ou-ab12-22222222"])
    tells_paths: bool = True

    def join(self, account_id: str, unit: str | None = None) -> None:
        self._put(account_id, Member(account_id, joined_at=self.now, unit=unit))
        self.known.add(account_id)

    def leave(self, account_id: str) -> None:
        self._put(account_id, None)

    def alter(self, account_id: str, **changes: Any) -> None:
        self._put(account_id, replace(self.members[account_id], **changes))

    def _put(self, account_id: str, member: Member | None) -> None:
        self.past.setdefault(account_id, []).append((self.now, member))
        self.members.pop(account_id, None)
        if member is not None:
            self.members[account_id] = member

    def _seen(self) -> dict[str, Member]:
        if self.seen_at is None:
            return self.members
        then = {key: [held for when, held in past if when <= self.seen_at][-1:] for key, past in self.past.items()}
        return {key: held[0] for key, held in then.items() if held and held[0] is not None}

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def _DescribeAccount(self, asked: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        member = self._seen().get(asked["AccountId"])
        if member is None:
            raise refusal("AccountNotFoundException", "You specified an account that doesn't exist.")
        return {"Account": self._told(member)}

    def _ListAccounts(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        after, seen = asked.get("NextToken", ""), self._seen()
        ids = sorted(each for each in seen if each > after)
        told = {"Accounts": [self._told(seen[each]) for each in ids[:PAGE]]}
        return told | ({"NextToken": ids[PAGE - 1]} if len(ids) > PAGE else {})

    def _DescribeOrganization(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Organization": {"Id": ORGANIZATION_ID}}

    def _ListParents(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        member = self._seen().get(asked["ChildId"])
        if asked["ChildId"] not in self.units and member is None:
            raise refusal("ChildNotFoundException", "no such child")
        unit = member.unit if member else None
        return {"Parents": [{"Id": unit, "Type": "ORGANIZATIONAL_UNIT"} if unit else {"Id": ROOT, "Type": "ROOT"}]}

    def _ListRoots(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Roots": [{"Id": ROOT}]}

    def _ListAccountsForParent(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        parent = None if asked["ParentId"] == ROOT else asked["ParentId"]
        return {"Accounts": [self._told(each) for each in self._seen().values() if each.unit == parent]}

    def _ListOrganizationalUnitsForParent(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        return {"OrganizationalUnits": [{"Id": each} for each in self.units] if asked["ParentId"] == ROOT else []}

    def _told(self, member: Member) -> dict[str, Any]:
        told: dict[str, Any] = {
            "Id": member.id,
            "Name": f"Account {member.id}",
            "State": member.state,
            "JoinedTimestamp": datetime.fromtimestamp(member.joined_at, UTC),
        }
        if self.tells_paths:
            told["Paths"] = ["/".join([ORGANIZATION_ID, ROOT, *([member.unit] if member.unit else []), member.id, ""])]
        return told
