"""Items of the source-policy table: written, read back, and parsed where they were edited by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.aws import items
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.errors import Reason
from chalicelib.settings import Scope
from chalicelib.source_policy.records import (
    AppliedShard,
    Control,
    Names,
    Problem,
    Records,
    ShardContent,
    ShardRecord,
    Status,
)
from tests.unit.builders import SOURCE, account_ids, settings

NAME = "CrossAccountReadOnlyAccess"
READER = f"arn:aws:iam::{SOURCE}:role/Reader"
NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
STATUS = Status(names=Names.of(settings()), organization_id="o-abcdefghij", shards=1, room=10)
CONTENT = ShardContent(accounts=frozenset({AccountId("000000000001"), AccountId("000000000002")}))
RECORD = ShardRecord(name=NAME, applied=AppliedShard(content=CONTENT, attached=frozenset({READER}), version_id="v1"))


class _Items:
    """A DynamoDB table without conditions, which scans one item a page."""

    def __init__(self, *written: dict[str, Any]) -> None:
        self.items = {item["policy_name"]: items.written(item) for item in written}

    def scan(self, *, ExclusiveStartKey: int = 0, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        page = sorted(self.items.items())[ExclusiveStartKey : ExclusiveStartKey + 1]
        more = {"LastEvaluatedKey": ExclusiveStartKey + 1} if ExclusiveStartKey + 1 < len(self.items) else {}
        return {"Items": [item for _, item in page]} | more

    def get_item(self, *, Key: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        name = Key["policy_name"]["S"]
        return {"Item": self.items[name]} if name in self.items else {}

    def put_item(self, *, Item: dict[str, Any], **_: Any) -> None:  # noqa: N803
        self.items[Item["policy_name"]["S"]] = Item

    def delete_item(self, *, Key: dict[str, Any], **_: Any) -> None:  # noqa: N803
        self.items.pop(Key["policy_name"]["S"], None)

    def update_item(
        self,
        *,
        Key: dict[str, Any],  # noqa: N803
        ExpressionAttributeNames: dict[str, str],  # noqa: N803
        ExpressionAttributeValues: dict[str, Any] | None = None,  # noqa: N803
        **_: Any,
    ) -> None:
        item = self.items.setdefault(Key["policy_name"]["S"], dict(Key))
        values = ExpressionAttributeValues or {}
        for name in ExpressionAttributeNames.values():
            item.pop(name, None)
            if f":{name}" in values:
                item[name] = values[f":{name}"]


def _table(*written: dict[str, Any]) -> SourcePolicyTable:
    client: Any = _Items(*written)
    return SourcePolicyTable(settings(), client, "source-policy")


some_accounts = st.frozensets(account_ids, max_size=3)
moments = st.none() | st.datetimes(timezones=st.just(UTC))
problems = st.none() | st.builds(Problem, st.sampled_from(Reason), st.text())
principals = st.frozensets(st.sampled_from([READER, f"{READER}2"]))
versions = st.builds(
    AppliedShard,
    content=st.builds(
        ShardContent,
        accounts=some_accounts,
        excluded=some_accounts,
        scope=st.sampled_from(Scope),
        frozen=st.booleans(),
    ),
    digest=st.text(max_size=3),
    attached=principals,
    version_id=st.sampled_from(["", "v1", "v12"]),
)
shard_records = st.builds(
    ShardRecord,
    name=st.just(NAME),
    applied=st.none() | versions,
    unfinished=st.lists(versions, max_size=2).map(tuple),
    applying=st.none() | versions,
    error=problems,
    written_at=moments,
    verified_at=moments,
    denied_principals=principals,
)
statuses = st.builds(
    Status,
    names=st.just(Names.of(settings())),
    organization_id=st.just("o-abcdefghij"),
    shards=st.integers(0, 25),
    room=st.integers(0, 25),
    principals=problems,
    looked_at=moments,
    blocked=problems,
    scope=problems,
    verified_at=moments,
    checked_at=moments,
    repairs=st.lists(
        st.fixed_dictionaries({"policy_name": st.just(NAME), "action": st.text(max_size=3)}), max_size=2
    ).map(tuple),
)


@given(shard_records, statuses)
def test_what_is_written_is_read_back(record: ShardRecord, status: Status) -> None:
    table = _table()

    table.write_shard(record)
    table.write_status(status)

    assert table.load() == Records(status=status, by_index={0: record})


def test_a_status_is_written_over_what_it_was() -> None:
    table = _table()
    table.write_status(Status(names=STATUS.names, organization_id="o-x", blocked=Problem(Reason.QUOTA, "full")))

    table.write_status(STATUS)

    assert table.load().status == STATUS


def test_what_was_asked_for_is_read_back() -> None:
    table = _table()
    assert table.control() == Control()

    table.set_frozen(frozen=True)
    table.set_uninstalling(uninstalling=True, uninstalled=True)
    table.request_check(NOW, verify=True, scope_recorded=Scope.ORGANIZATION)

    asked = Control(
        frozen=True,
        uninstalling=True,
        uninstalled=True,
        verify_requested_at=NOW,
        check_requested_at=NOW,
        scope_recorded=Scope.ORGANIZATION,
    )
    assert table.control() == table.load().control == asked


def test_a_check_leaves_an_earlier_request_to_verify_and_lifts_the_scope() -> None:
    table = _table()
    table.request_check(NOW, verify=True, scope_recorded=Scope.ACCOUNTS)
    later = NOW.replace(hour=13)

    table.request_check(later, verify=False, scope_recorded=None)

    assert table.control() == Control(verify_requested_at=NOW, check_requested_at=later)


def test_what_is_deleted_is_gone() -> None:
    table = _table()
    table.write_shard(RECORD)
    table.write_status(STATUS)

    table.delete_shard(NAME)
    table.delete_status()

    assert table.load() == Records()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (NAME, 0),
        (f"{NAME}-2", 1),
        (f"{NAME}-25", 24),
        (f"{NAME}-1", None),
        (f"{NAME}-02", None),
        (f"{NAME}-x", None),
        (f"{NAME}2", None),
        ("Other-2", None),
    ],
)
def test_a_record_has_the_index_of_its_name(name: str, index: int | None) -> None:
    table = _table()
    table.write_shard(ShardRecord(name=name))

    assert list(table.load().by_index) == ([] if index is None else [index])


def test_shards_are_found_by_the_recorded_name() -> None:
    table = _table()
    names = Names(member_role_name="Role", source_policy_name="Former", source_account_id=SOURCE)
    table.write_status(Status(names=names, organization_id="o-abcdefghij"))
    for name in ("Former", "Former-2", NAME):
        table.write_shard(ShardRecord(name=name))

    assert {index: record.name for index, record in table.load().by_index.items()} == {0: "Former", 1: "Former-2"}


def test_a_lease_of_a_first_run_is_no_status() -> None:
    table = _table()
    assert table.acquire_run("run", now=1.0, until=21.0)

    assert table.load() == Records()
    assert table.renew_run("run", until=25.0)
    table.release_run("run")
    assert table.load() == Records()


# --- Items that were edited by hand -----------------------------------------------------------------------------------

VERSION = {
    "accounts": "000000000001",
    "excluded": "",
    "scope": "accounts",
    "frozen": False,
    "digest": "d",
    "attached": [READER],
    "version_id": "v1",
}


@pytest.mark.parametrize(
    "edited",
    [
        {"applied": {}},
        {"applied": "x"},
        {"applied": None},
        {"applied": {**VERSION, "accounts": "0001"}},
        {"applied": {**VERSION, "accounts": ["000000000001"]}},
        {"applied": {**VERSION, "accounts": "000000000001,"}},
        {"applied": {**VERSION, "excluded": "x"}},
        {"applied": {**VERSION, "scope": "everyone"}},
        {"applied": {**VERSION, "attached": 7}},
        {"applying": {**VERSION, "accounts": 7}},
        {"unfinished": [VERSION, {}]},
        {"unfinished": 7},
        {"error": {"reason": "tired", "error": ""}},
        {"error": "x"},
        {"written_at": "yesterday"},
        {"written_at": "2026-11-24T12:00:00"},
        {"verified_at": 7},
        {"denied_principals": 7},
        {"applied": {**VERSION, "frozen": "true"}},
    ],
)
def test_a_record_that_cannot_be_read_is_lost_and_named(edited: dict[str, Any]) -> None:
    table = _table({"policy_name": NAME, "applied": VERSION} | edited)
    table.write_status(STATUS)

    records = table.load()

    assert (records.by_index, list(records.unreadable)) == ({}, [NAME])
    assert records.are_lost


def test_a_record_of_what_was_applied_alone_can_be_read() -> None:
    table = _table({"policy_name": NAME, "applied": VERSION})

    assert table.load().by_index[0].applied is not None


@pytest.mark.parametrize(
    "edited",
    [
        {"names": "x"},
        {"names": {}},
        {"names": {"member_role_name": "Role"}},
        {"shards": "many"},
        {"room": "x"},
        {"blocked": {"reason": "tired"}},
        {"looked_at": "yesterday"},
        {"repairs": [7]},
    ],
)
def test_a_status_that_cannot_be_read_is_lost_and_named(edited: dict[str, Any]) -> None:
    names = {"member_role_name": "Role", "source_policy_name": NAME, "source_account_id": SOURCE}
    table = _table({"policy_name": "#status", "names": names, "organization_id": "o-x"} | edited)

    records = table.load()

    assert (records.status, list(records.unreadable)) == (None, ["#status"])
    assert records.are_lost


@pytest.mark.parametrize("value", ["true", 1, "", [], {"a": "b"}, None])
def test_a_mark_that_cannot_be_read_counts_as_absent(value: Any) -> None:
    names = ("frozen", "uninstalling", "uninstalled", "verify_requested_at", "check_requested_at", "scope_recorded")
    table = _table({"policy_name": "#control"} | dict.fromkeys(names, value))

    assert table.control() == table.load().control == Control()
