"""The source-policy table: what was asked for (`#control`), what publish found (`#status`), and a record of each shard.

`#control` has one writer an attribute (freeze, retire, backfill, resync); all else is written by publish alone. An item that can't be read,
since it was edited by hand, counts as lost: publish restores it from IAM.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib.accounts import written_moment
from chalicelib.arns import AccountId, is_account_id
from chalicelib.aws import items
from chalicelib.aws.failures import error_code
from chalicelib.errors import Reason
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import (
    AppliedShard,
    Control,
    Names,
    Problem,
    Records,
    ShardContent,
    ShardRecord,
    Status,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Keys that no policy can have as its name.
_CONTROL = "#control"
_STATUS = "#status"
_FURTHER = re.compile("[2-9]|[1-9][0-9]+")  # the number of a shard after the first

_Item = Mapping[str, Any]
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
        found: dict[str, _Item] = {}
        start: dict[str, Any] = {}
        while True:
            page = self._client.scan(TableName=self._name, ConsistentRead=True, **start)
            for item in page["Items"]:
                read = items.read(item)
                found[read["policy_name"]] = read
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        unreadable: dict[str, str] = {}
        status = _parse(found.get(_STATUS), _status, unreadable)
        first = status.names.source_policy_name if status else self._settings.source_policy_name
        indexes = {name: index for name in found if (index := _index(name, first)) is not None}
        records = {index: _parse(found[name], _record, unreadable) for name, index in indexes.items()}
        return Records(
            control=_control(found.get(_CONTROL, {})),
            status=status,
            by_index={index: record for index, record in records.items() if record is not None},
            unreadable=unreadable,
        )

    def control(self) -> Control:
        """Read what was asked for, consistently."""
        answer = self._client.get_item(TableName=self._name, Key=_key(_CONTROL), ConsistentRead=True)
        return _control(items.read(answer.get("Item", {})))

    def acquire_run(self, owner: str, *, now: float, until: float) -> bool:
        """Take the run lease, or return False if another run holds it; times are seconds since the epoch."""
        return self._update(
            _STATUS,
            {"run_owner": owner, "run_until": Decimal(str(until))},
            # The owner itself asks again where botocore retried a lost answer.
            condition="attribute_not_exists(run_owner) OR run_owner = :run_owner OR run_until < :now",
            values={":now": Decimal(str(now))},
        )

    def renew_run(self, owner: str, *, until: float) -> bool:
        """Extend the run lease, or return False if another run has taken it."""
        return self._update(
            _STATUS, {"run_until": Decimal(str(until))}, condition="run_owner = :owner", values={":owner": owner}
        )

    def release_run(self, owner: str) -> None:
        """Give the run lease back, unless another run has taken it."""
        released = {"run_owner": None, "run_until": None}
        self._update(_STATUS, released, condition="run_owner = :owner", values={":owner": owner})

    def write_status(self, status: Status) -> None:
        """Write the status; the run lease beside it stays as it is."""
        self._update(_STATUS, _written_status(status))

    def delete_status(self) -> None:
        """Delete the status, and the run lease with it."""
        self._client.delete_item(TableName=self._name, Key=_key(_STATUS))

    def write_shard(self, record: ShardRecord) -> None:
        """Write a shard's record."""
        item = {name: value for name, value in _written_record(record).items() if value is not None}
        self._client.put_item(TableName=self._name, Item=items.written({"policy_name": record.name, **item}))

    def delete_shard(self, name: str) -> None:
        """Delete the record of a shard whose policy was deleted."""
        self._client.delete_item(TableName=self._name, Key=_key(name))

    def set_frozen(self, *, frozen: bool) -> None:
        """Ask for the freeze, or for its end."""
        self._update(_CONTROL, {"frozen": frozen})

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        """Ask for everything to be uninstalled (then `uninstalled`: no role is left), or lift it."""
        self._update(_CONTROL, {"uninstalling": uninstalling, "uninstalled": uninstalled})

    def request_check(self, now: datetime, *, verify: bool, scope_recorded: Scope | None) -> None:
        """Ask for the shards to be checked against IAM, or each of them verified, and say for which scope the ledger is ready."""
        asked = {"check_requested_at": written_moment(now), "scope_recorded": scope_recorded and str(scope_recorded)}
        self._update(_CONTROL, asked | ({"verify_requested_at": written_moment(now)} if verify else {}))

    def _update(
        self,
        key: str,
        attributes: Mapping[str, Any],
        *,
        condition: str | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set attributes, removing those that are None; return False if the condition isn't met."""
        present = {name: value for name, value in attributes.items() if value is not None}
        absent = [name for name in attributes if name not in present]
        expression = " ".join(
            [f"SET {', '.join(f'#{name} = :{name}' for name in present)}"] * bool(present)
            + [f"REMOVE {', '.join(f'#{name}' for name in absent)}"] * bool(absent)
        )
        given = {f":{name}": value for name, value in present.items()} | dict(values or {})
        optional: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        optional |= {"ExpressionAttributeValues": items.written(given)} if given else {}
        try:
            self._client.update_item(
                TableName=self._name,
                Key=_key(key),
                UpdateExpression=expression,
                ExpressionAttributeNames={f"#{name}": name for name in attributes},
                **optional,
            )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _key(name: str) -> dict[str, Any]:
    return items.written({"policy_name": name})


def _index(name: str, first: str) -> int | None:
    if name == first:
        return 0
    base, _, number = name.rpartition("-")
    return int(number) - 1 if base == first and _FURTHER.fullmatch(number) else None


def _parse(item: _Item | None, parse: Callable[[_Item], _T | None], unreadable: dict[str, str]) -> _T | None:
    """Parse an item, or return None if there is none or it can't be read; why not is added by its name."""
    if item is None:
        return None
    try:
        return parse(item)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        unreadable[str(item["policy_name"])] = f"{type(error).__name__}: {error}"
        return None


def _control(item: _Item) -> Control:
    """Parse what was asked for; a value that can't be read counts as absent."""

    def typed(name: str, kind: type[_T]) -> _T | None:
        value = item.get(name)
        return value if isinstance(value, kind) else None

    def moment(name: str) -> datetime | None:
        try:
            return _moment(item, name)
        except (TypeError, ValueError):
            return None

    scope = typed("scope_recorded", str)
    return Control(
        frozen=typed("frozen", bool),
        uninstalling=bool(typed("uninstalling", bool)),
        uninstalled=bool(typed("uninstalled", bool)),
        verify_requested_at=moment("verify_requested_at"),
        check_requested_at=moment("check_requested_at"),
        scope_recorded=Scope(scope) if scope in set(Scope) else None,
    )


def _status(item: _Item) -> Status | None:
    if "names" not in item:
        return None  # only the lease of a first run that didn't finish
    return Status(
        names=Names(**item["names"]),
        organization_id=str(item["organization_id"]),
        shards=int(item.get("shards", 0)),
        room=int(item.get("room", 0)),
        principals=_problem(item, "principals"),
        looked_at=_moment(item, "looked_at"),
        blocked=_problem(item, "blocked"),
        scope=_problem(item, "scope"),
        verified_at=_moment(item, "verified_at"),
        checked_at=_moment(item, "checked_at"),
        repairs=tuple({str(key): str(value) for key, value in each.items()} for each in item.get("repairs", [])),
    )


def _written_status(status: Status) -> dict[str, Any]:
    return {
        "names": {
            "member_role_name": status.names.member_role_name,
            "source_policy_name": status.names.source_policy_name,
            "source_account_id": status.names.source_account_id,
        },
        "organization_id": status.organization_id,
        "shards": status.shards,
        "room": status.room,
        "principals": _written_problem(status.principals),
        "looked_at": _text(status.looked_at),
        "blocked": _written_problem(status.blocked),
        "scope": _written_problem(status.scope),
        "verified_at": _text(status.verified_at),
        "checked_at": _text(status.checked_at),
        "repairs": [dict(each) for each in status.repairs] or None,
    }


def _record(item: _Item) -> ShardRecord:
    return ShardRecord(
        name=str(item["policy_name"]),
        applied=_applied(item, "applied"),
        applying=_applied(item, "applying"),
        abandoned=tuple(_read_applied(each) for each in item.get("abandoned", [])),
        error=_problem(item, "error"),
        written_at=_moment(item, "written_at"),
        verified_at=_moment(item, "verified_at"),
        denied_principals=frozenset(map(str, item.get("denied_principals", []))),
    )


def _written_record(record: ShardRecord) -> dict[str, Any]:
    return {
        "applied": _written_applied(record.applied),
        "applying": _written_applied(record.applying),
        "abandoned": [_written_applied(each) for each in record.abandoned] or None,
        "error": _written_problem(record.error),
        "written_at": _text(record.written_at),
        "verified_at": _text(record.verified_at),
        "denied_principals": sorted(record.denied_principals) or None,
    }


def _applied(item: _Item, name: str) -> AppliedShard | None:
    return _read_applied(item[name]) if name in item else None


def _read_applied(held: _Item) -> AppliedShard:
    content = ShardContent(
        accounts=_account_ids(held["accounts"]),
        excluded=_account_ids(held["excluded"]),
        scope=Scope(held["scope"]),
        frozen=held["frozen"] is True,
    )
    return AppliedShard(
        content=content,
        digest=str(held["digest"]),
        attached=frozenset(map(str, held["attached"])),
        version_id=str(held["version_id"]),
    )


def _written_applied(applied: AppliedShard | None) -> dict[str, Any] | None:
    if applied is None:
        return None
    # Each set of accounts is one text: botocore takes ten times as long over a set of thousands.
    return {
        "accounts": ",".join(sorted(applied.content.accounts)),
        "excluded": ",".join(sorted(applied.content.excluded)),
        "scope": str(applied.content.scope),
        "frozen": applied.content.frozen,
        "digest": applied.digest,
        "attached": sorted(applied.attached),
        "version_id": applied.version_id,
    }


def _account_ids(text: str) -> frozenset[AccountId]:
    listed = text.split(",") if text else []
    if not all(map(is_account_id, listed)):
        message = "accounts that are no account ids"
        raise ValueError(message)
    return frozenset(map(AccountId, listed))


def _problem(item: _Item, name: str) -> Problem | None:
    return Problem(Reason(item[name]["reason"]), str(item[name]["error"])) if name in item else None


def _written_problem(problem: Problem | None) -> dict[str, str] | None:
    return {"reason": str(problem.reason), "error": problem.error} if problem else None


def _moment(item: _Item, name: str) -> datetime | None:
    if name not in item:
        return None
    read = datetime.fromisoformat(item[name])
    if read.tzinfo is None:
        message = f"{name} has no time zone"
        raise ValueError(message)
    return read


def _text(moment: datetime | None) -> str | None:
    return written_moment(moment) if moment else None
