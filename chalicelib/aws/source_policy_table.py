"""The source-policy table: requests (`#control`), what publish found (`#status`), and a record of each shard.

Each attribute of `#control` has one writer (freeze, retire, backfill, resync, on_account_event); publish alone writes
all else, but for the names in scope none, which enroll writes and retire deletes. An item that can't be read, since it
was edited by hand, counts as lost: publish restores it from IAM.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from chalicelib.aws import items
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import MAX_SHARDS, Control, Names, Records, ShardRecord, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Keys that no policy can have as its name.
_CONTROL = "#control"
_STATUS = "#status"
_FURTHER = re.compile("[2-9]|[1-9][0-9]")  # the number of a shard after the first
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_T = TypeVar("_T")


class SourcePolicyTable:
    """The adapter of the DynamoDB table."""

    def __init__(self, settings: Settings, client: "DynamoDBClient", table: str) -> None:
        """Take a client and the table's name."""
        self._settings = settings
        self._client = client
        self._name = table

    def load(self) -> Records:
        """Read the whole table, consistently."""
        read = map(items.read, items.scan(self._client, self._name))
        found: dict[str, dict[str, Any]] = {item["policy_name"]: item for item in read}
        unreadable: dict[str, str] = {}
        # Without names it is only the lease of a first run that did not finish.
        status = _parse(Status, found[_STATUS], unreadable) if "names" in found.get(_STATUS, {}) else None
        first = (status.names.source_policy_name if status else None) or self._settings.source_policy_name
        indexes = {name: index for name in found if (index := _index(name, first)) is not None}
        records = {index: _parse(ShardRecord, found[name], unreadable) for name, index in indexes.items()}
        return Records(
            control=_control(found.get(_CONTROL, {})),
            status=status,
            by_index={index: record for index, record in records.items() if record is not None},
            unreadable=unreadable,
        )

    def control(self) -> Control:
        """Read the requests, consistently."""
        answer = self._client.get_item(TableName=self._name, Key=_key(_CONTROL), ConsistentRead=True)
        return _control(items.read(answer.get("Item", {})))

    def acquire_run(self, owner: str, *, now: float, until: float) -> bool:
        """Take the run lease, or return False if another run holds it; times are seconds since the epoch."""
        return self._update(
            _STATUS,
            {"run_owner": owner, "run_until": _number(until)},
            # The owner itself asks again where botocore retried a lost answer.
            condition="attribute_not_exists(#run_owner) OR #run_owner = :run_owner OR #run_until < :now",
            values={":now": _number(now)},
        )

    def renew_run(self, owner: str, *, until: float) -> bool:
        """Extend the run lease, or return False if another run has taken it."""
        renewed = {"run_owner": owner, "run_until": _number(until)}
        return self._update(_STATUS, renewed, condition="#run_owner = :run_owner")

    def release_run(self, owner: str) -> None:
        """Give the run lease back, unless another run has taken it."""
        released = {"run_owner": None, "run_until": None}
        self._update(_STATUS, released, condition="#run_owner = :owner", values={":owner": owner})

    def write_status(self, status: Status) -> None:
        """Write the status; the run lease beside it stays as it is."""
        self._write(_STATUS, status)

    def pin_names(self, names: Names) -> None:
        """Write a first status with these names, unless there is a status."""
        self._update(_STATUS, items.encode(Status(names=names)), condition="attribute_not_exists(#names)")

    def delete_status(self) -> None:
        """Delete the status, and the run lease with it."""
        self._client.delete_item(TableName=self._name, Key=_key(_STATUS))

    def write_shard(self, record: ShardRecord) -> None:
        """Write a shard's record."""
        self._write(record.name, record)

    def delete_shard(self, name: str) -> None:
        """Delete the record of a shard whose policy was deleted."""
        self._client.delete_item(TableName=self._name, Key=_key(name))

    def set_frozen(self, now: datetime, *, frozen: bool) -> None:
        """Request the freeze, or its end."""
        self._update(_CONTROL, {"frozen": frozen, "freeze_requested_at": items.encode(now)})

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        """Ask for everything to be uninstalled (then `uninstalled`: no role is left), or lift it."""
        # A backfill that lifted it meanwhile is not undone.
        condition = "#uninstalling = :uninstalling" if uninstalled else None
        self._update(_CONTROL, {"uninstalling": uninstalling, "uninstalled": uninstalled}, condition=condition)

    def request_check(self, now: datetime, *, verify: bool, scope_recorded: Scope | None) -> None:
        """Request a check of the shards, a full one with `verify`; record the scope for which the ledger is complete."""
        requested_at = items.encode(now)
        asked = {"check_requested_at": requested_at, "scope_recorded": items.encode(scope_recorded)}
        self._update(_CONTROL, asked | ({"verify_requested_at": requested_at} if verify else {}))

    def record_control_policy_change(self, now: datetime) -> None:
        """Record that the organization's control policies changed: accounts that they denied are due."""
        self._update(_CONTROL, {"control_policies_changed_at": items.encode(now)})

    def _write(self, key: str, value: Status | ShardRecord) -> None:
        encoded = items.encode(value)
        self._update(key, {field.name: encoded.get(field.name) for field in fields(value)})

    def _update(
        self,
        key: str,
        attributes: Mapping[str, Any],
        *,
        condition: str | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set attributes, removing those that are None; return False if the condition isn't met."""
        change, given = items.set_and_remove(dict(attributes))
        return items.update(
            self._client,
            self._name,
            {"policy_name": key},
            change,
            condition=condition,
            names=attributes.keys(),
            values=given | dict(values or {}),
        )


def _key(name: str) -> dict[str, Any]:
    return items.written({"policy_name": name})


def _number(seconds: float) -> Decimal:
    return Decimal(str(round(seconds, 3)))


def _index(name: str, first: str) -> int | None:
    if name == first:
        return 0
    base, _, number = name.rpartition("-")
    is_further = base == first and _FURTHER.fullmatch(number) and int(number) <= MAX_SHARDS
    return int(number) - 1 if is_further else None


def _parse(kind: type[_T], item: Mapping[str, Any], unreadable: dict[str, str]) -> _T | None:
    """Parse an item, or return None if it can't be read; why not is added under its name."""
    name = str(item["policy_name"])
    try:
        parsed: _T = items.decode(kind, {**item, "name": name})
    except _UNREADABLE as error:
        unreadable[name] = f"{type(error).__name__}: {error}"
        return None
    return parsed


def _control(item: Mapping[str, Any]) -> Control:
    """Parse what was asked for; an attribute that can't be read counts as absent."""
    readable: dict[str, Any] = {}
    for name, kind in get_type_hints(Control).items():
        try:
            readable[name] = items.decode(kind, item[name])
        except _UNREADABLE:
            continue
    return Control(**readable)
