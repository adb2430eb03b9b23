"""Items of the source-policy table: written, read back, and parsed after an operator edited them."""

from dataclasses import fields
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from tests.unit.builders import ORGANIZATION_ID, READER, SOURCE, account_ids, settings
from tests.unit.ledger_rows import NOW, SHARD

STATUS = Status(names=Names.of(settings()), organization_id=ORGANIZATION_ID, shards=1, room=10)


class _Client:
    """A DynamoDB table in memory, without conditions; a scan returns one item a page."""

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
    client: Any = _Client(*written)
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
    name=st.just(SHARD),
    applied=st.none() | versions,
    unfinished=st.lists(versions, max_size=2).map(tuple),
    applying=st.none() | versions,
    error=problems,
    written_at=moments,
    verified_at=moments,
    freeze_requested_at=moments,
    denied_principals=principals,
)
statuses = st.builds(
    Status,
    names=st.just(Names.of(settings())),
    organization_id=st.just(ORGANIZATION_ID),
    shards=st.integers(0, 25),
    room=st.integers(0, 25),
    principals=problems,
    looked_at=moments,
    blocked=problems,
    scope=problems,
    verified_at=moments,
    checked_at=moments,
    repairs=st.lists(
        st.fixed_dictionaries({"policy_name": st.just(SHARD), "action": st.text(max_size=3)}), max_size=2
    ).map(tuple),
)


@given(shard_records, statuses)
def test_shard_and_status_are_read_as_written(record: ShardRecord, status: Status) -> None:
    table = _table()

    table.write_shard(record)
    table.write_status(status)

    assert table.load() == Records(status=status, by_index={0: record})


def test_status_replaces_the_previous_one() -> None:
    table = _table()
    table.write_status(Status(names=STATUS.names, organization_id="o-x", blocked=Problem(Reason.QUOTA, "full")))

    table.write_status(STATUS)

    assert table.load().status == STATUS


def test_control_is_read_as_written() -> None:
    table = _table()
    assert table.control() == Control()

    table.set_frozen(NOW, frozen=True)
    table.set_uninstalling(uninstalling=True, uninstalled=True)
    table.request_check(NOW, verify=True, scope_recorded=Scope.ORGANIZATION)
    table.record_control_policy_change(NOW)

    expected = Control(
        frozen=True,
        freeze_requested_at=NOW,
        uninstalling=True,
        uninstalled=True,
        verify_requested_at=NOW,
        check_requested_at=NOW,
        scope_recorded=Scope.ORGANIZATION,
        control_policies_changed_at=NOW,
    )
    assert table.control() == table.load().control == expected


def test_check_keeps_a_request_to_verify_and_clears_the_scope() -> None:
    table = _table()
    table.request_check(NOW, verify=True, scope_recorded=Scope.ACCOUNTS)
    later = NOW.replace(hour=13)

    table.request_check(later, verify=False, scope_recorded=None)

    assert table.control() == Control(verify_requested_at=NOW, check_requested_at=later)


def test_deleted_items_are_gone() -> None:
    table = _table()
    table.write_shard(ShardRecord(name=SHARD))
    table.write_status(STATUS)

    table.delete_shard(SHARD)
    table.delete_status()

    assert table.load() == Records()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (SHARD, 0),
        (f"{SHARD}-2", 1),
        (f"{SHARD}-25", 24),
        (f"{SHARD}-1", None),
        (f"{SHARD}-02", None),
        (f"{SHARD}-x", None),
        (f"{SHARD}2", None),
        ("Other-2", None),
    ],
)
def test_record_has_the_index_of_its_name(name: str, index: int | None) -> None:
    table = _table()
    table.write_shard(ShardRecord(name=name))

    assert list(table.load().by_index) == ([] if index is None else [index])


def test_shards_are_found_by_the_recorded_name() -> None:
    table = _table()
    names = Names(member_role_name="Role", source_policy_name="Former", source_account_id=SOURCE)
    table.write_status(Status(names=names, organization_id=ORGANIZATION_ID))
    for name in ("Former", "Former-2", SHARD):
        table.write_shard(ShardRecord(name=name))

    assert {index: record.name for index, record in table.load().by_index.items()} == {0: "Former", 1: "Former-2"}


def test_lease_of_a_first_run_is_no_status() -> None:
    table = _table()
    assert table.acquire_run("run", now=1.0, until=21.0)

    assert table.load() == Records()
    assert table.renew_run("run", until=25.0)
    table.release_run("run")
    assert table.load() == Records()


# --- Edited items -----------------------------------------------------------------------------------------------------

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
        {"applied": None},
        {"applied": {**VERSION, "accounts": "0001"}},
        {"applied": {**VERSION, "accounts": "000000000001,"}},
        {"applied": {**VERSION, "scope": "everyone"}},
        {"applied": {**VERSION, "attached": 7}},
        {"applying": {**VERSION, "accounts": 7}},
        {"unfinished": [VERSION, {}]},
        {"unfinished": 7},
        {"error": {"reason": "tired", "error": ""}},
        {"written_at": "yesterday"},
        {"written_at": "2026-11-24T12:00:00"},
        {"verified_at": 7},
        {"denied_principals": 7},
        {"applied": {**VERSION, "frozen": "true"}},
    ],
)
def test_unreadable_record_is_lost_and_reported(edited: dict[str, Any]) -> None:
    assert _table({"policy_name": SHARD, "applied": VERSION}).load().by_index[0].applied is not None
    table = _table({"policy_name": SHARD, "applied": VERSION} | edited)
    table.write_status(STATUS)

    records = table.load()

    assert (records.by_index, list(records.unreadable)) == ({}, [SHARD])
    assert records.are_lost


@pytest.mark.parametrize(
    "edited",
    [
        {"names": {"member_role_name": "Role"}},
        {"shards": "many"},
        {"blocked": {"reason": "tired"}},
        {"looked_at": "yesterday"},
        {"repairs": [7]},
    ],
)
def test_unreadable_status_is_lost_and_reported(edited: dict[str, Any]) -> None:
    names = {"member_role_name": "Role", "source_policy_name": SHARD, "source_account_id": SOURCE}
    table = _table({"policy_name": "#status", "names": names, "organization_id": "o-x"} | edited)

    records = table.load()

    assert (records.status, list(records.unreadable)) == (None, ["#status"])
    assert records.are_lost


@pytest.mark.parametrize("value", ["true", 1, "", [], {"a": "b"}, None])
def test_unreadable_flag_is_absent(value: Any) -> None:
    names = [field.name for field in fields(Control)]
    table = _table({"policy_name": "#control"} | dict.fromkeys(names, value))

    assert table.control() == table.load().control == Control()
