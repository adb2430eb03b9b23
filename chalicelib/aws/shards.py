"""The source policy's table: an item for each shard, one that orders placements, and the lease that only one writer holds."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib.arns import AccountId, parse_principal
from chalicelib.aws import items
from chalicelib.aws.failures import error_code
from chalicelib.errors import RolecallError, SettingsError
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import Shard, shard_name

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Keys that no policy can have as its name.
_PLACEMENT = "#placement"
_PEN = "#pen"
_STOPPED = "#stopped"
_FURTHER = re.compile("[2-9]|[1-9][0-9]+")  # the number of a shard after the first
_IDS = re.compile("(?:[0-9]{12}(?:,[0-9]{12})*)?")
_ATTEMPTS = 5
_MOST_COUNTED = 10**15  # of placements, and of a shard's versions
_CONFLICTS = frozenset(
    {"TransactionCanceledException", "TransactionInProgressException", "TransactionConflictException"}
)

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All shards in their order, as they were when so many placements had been made, or later; and whether enrolling is stopped.

    To drop a shard and to stop count as placements, too: nothing is placed by what was seen before. `scope` is the one that the
    shards are written in, whatever the settings ask for by now.
    """

    placement: int
    shards: tuple[Shard, ...]
    stopped: bool = False
    scope: Scope = Scope.ACCOUNTS

    def in_force(self, settings: Settings) -> Settings:
        """Tell the settings by which these shards are written."""
        return replace(settings, source_policy_scope=self.scope)

    @property
    def names_everyone(self) -> bool:
        """Whether the source policy lets one into the whole organization, but for who is left out."""
        return self.scope is Scope.ORGANIZATION

    def lets_in(self, account_id: AccountId) -> bool:
        """Tell whether the source policy lets one in to an account of the organization."""
        if self.names_everyone:
            return bool(self.shards) and not any(account_id in shard.excluded for shard in self.shards)
        return any(account_id in shard.accounts for shard in self.shards)


@dataclass(frozen=True, slots=True)
class _Placement:
    """How many placements were made, for which names, and in which scope."""

    count: int
    made_for: dict[str, str]
    scope: Scope


class ShardTable:
    """Keeps what the shards should name and what was written of it; the adapter of one DynamoDB table."""

    def __init__(self, settings: Settings, client: "DynamoDBClient", table: str) -> None:
        """Take a client and the table's name."""
        self._settings = settings
        self._made_for = {
            "MEMBER_ROLE_NAME": settings.member_role_name,
            "SOURCE_POLICY_NAME": settings.source_policy_name,
            "SOURCE_PRINCIPAL_ARNS' account": settings.source_account_id,
        }
        self._client = client
        self._name = table

    def load(self) -> Snapshot:
        """Read all shards; a SettingsError refuses settings that would leave what is there to nobody.

        A RolecallError tells of an item that somebody's hand made unreadable: nothing is decided without it.
        The count of placements is read first: a placement made while the shards are read then makes `place` fail, so no
        decision is ever made on half of one.
        """
        placement = self._counted()
        self._refuse_other_names(placement.made_for)
        found: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = self._client.scan(TableName=self._name, ConsistentRead=True, **start)
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        by_name = {item["policy_name"]["S"]: item for item in found}
        ours = {index: name for name in by_name if (index := self._index(name)) is not None}
        missing = next((index for index in range(len(ours)) if index not in ours), None)
        if missing is not None:
            if self._counted().count != placement.count:
                return self.load()  # It was placed, or dropped, while the others were read.
            raise self._unreadable(shard_name(self._settings, missing), "it is missing")
        shards = [self._read(ours[index], by_name[ours[index]], _shard) for index in range(len(ours))]
        return Snapshot(placement.count, tuple(shards), _STOPPED in by_name, placement.scope)

    def has_moved(self, seen: Snapshot) -> bool:
        """Tell whether anybody placed since the snapshot, at the cost of one item and not of all shards."""
        return self._counted().count != seen.placement

    def _counted(self) -> _Placement:
        answer = self._client.get_item(TableName=self._name, Key=_key(_PLACEMENT), ConsistentRead=True)
        return self._read(_PLACEMENT, answer.get("Item", {}), self._placement)

    def _placement(self, item: dict[str, Any]) -> _Placement:
        made_for = item.get("made_for", self._made_for)
        scope = Scope(item.get("scope", self._settings.source_policy_scope))
        return _Placement(_count(item, "version"), {name: made_for[name] for name in self._made_for}, scope)

    def _read(self, name: str, item: dict[str, Any], read: Callable[[dict[str, Any]], _Read]) -> _Read:
        try:
            return read(items.read(item))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise self._unreadable(name, f"{type(error).__name__}: {error}") from error

    def _unreadable(self, name: str, why: str) -> RolecallError:
        return RolecallError(
            f"the item {name} of the table {self._name} can't be read ({why}): put it back as it was, by point-in-time recovery, "
            "or delete every item of the table and run a backfill, which takes in what the policies in IAM name"
        )

    def place(self, seen: Snapshot, changed: Iterable[Shard]) -> bool:
        """Store changed shards, and the snapshot's scope, all at once, or tell by False that somebody else placed since then."""
        counted: dict[str, Any] = {
            "Update": {
                "TableName": self._name,
                "Key": _key(_PLACEMENT),
                "UpdateExpression": "SET #version = :next, made_for = :made_for, #scope = :scope",
                "ConditionExpression": "#version = :seen" if seen.placement else "attribute_not_exists(#version)",
                "ExpressionAttributeNames": {"#version": "version", "#scope": "scope"},
                "ExpressionAttributeValues": items.written(
                    {":next": seen.placement + 1, ":made_for": self._made_for, ":scope": str(seen.scope)}
                    | ({":seen": seen.placement} if seen.placement else {})
                ),
            }
        }
        try:
            placing: Any = [counted, *map(self._placing, changed)]
            self._client.transact_write_items(TransactItems=placing)
        except ClientError as error:
            if _is_conflict(error):
                return False
            raise
        return True

    def _placing(self, shard: Shard) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._name,
                "Key": _key(shard.name),
                "UpdateExpression": "SET #version = :version, #frozen = :frozen, #accounts = :accounts, #excluded = :excluded",
                "ExpressionAttributeNames": {
                    "#version": "version",
                    "#frozen": "frozen",
                    "#accounts": "accounts",
                    "#excluded": "excluded",
                },
                "ExpressionAttributeValues": items.written(
                    {
                        ":version": shard.version,
                        ":frozen": shard.frozen,
                        ":accounts": _text(shard.accounts),
                        ":excluded": _text(shard.excluded),
                    }
                ),
            }
        }

    def stop(self) -> None:
        """Have every account leave, and none enrolled, until `resume`."""
        self._count(
            {
                "Update": {
                    "TableName": self._name,
                    "Key": _key(_STOPPED),
                    "UpdateExpression": "SET stopped = :true",
                    "ExpressionAttributeValues": items.written({":true": True}),
                }
            }
        )

    def resume(self) -> None:
        """Let accounts be enrolled again."""
        self._client.delete_item(TableName=self._name, Key=_key(_STOPPED))

    def forget(self, shard: Shard) -> None:
        """Drop a shard whose policy has been deleted."""
        self._count({"Delete": {"TableName": self._name, "Key": _key(shard.name)}})

    def forget_names(self, seen: Snapshot) -> None:
        """Have other names and another scope allowed, unless somebody placed since a snapshot in which nothing was left."""
        forget = partial(
            self._client.update_item,
            TableName=self._name,
            Key=_key(_PLACEMENT),
            UpdateExpression="REMOVE made_for, #scope",
            ConditionExpression="#version = :seen",
            ExpressionAttributeNames={"#version": "version", "#scope": "scope"},
            ExpressionAttributeValues=items.written({":seen": seen.placement}),
        )
        _if_its_condition_holds(forget)

    def _count(self, changing: dict[str, Any]) -> None:
        """Change an item whoever placed meanwhile, and have what is decided on an older snapshot fail."""
        counted: dict[str, Any] = {
            "Update": {
                "TableName": self._name,
                "Key": _key(_PLACEMENT),
                "UpdateExpression": "ADD #version :one",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": items.written({":one": 1}),
            }
        }
        placing: Any = [counted, changing]
        _despite_conflicts(partial(self._client.transact_write_items, TransactItems=placing))

    def mark_written(self, shard: Shard) -> None:
        """Record what IAM was last given of a shard; one that was dropped meanwhile doesn't come back by it."""
        values: dict[str, Any] = {":written": shard.written, ":form": shard.form}
        attached = "REMOVE attached"
        if shard.attached:
            attached, values[":attached"] = ", attached = :attached", set(shard.attached)
        mark = partial(
            self._client.update_item,
            TableName=self._name,
            Key=_key(shard.name),
            UpdateExpression=f"SET written = :written, form = :form {attached}",
            ConditionExpression="attribute_exists(#version)",
            ExpressionAttributeNames={"#version": "version"},
            ExpressionAttributeValues=items.written(values),
        )
        _despite_conflicts(mark)

    def take_pen(self, owner: str, *, now: float, until: float) -> bool:
        """Take the lease if nobody else holds it, or tell by False that somebody does; times are seconds since the epoch."""
        take = partial(
            self._client.update_item,
            TableName=self._name,
            Key=_key(_PEN),
            UpdateExpression="SET #owner = :owner, #until = :until",
            # Its own it holds where the answer was lost and botocore asks again.
            ConditionExpression="attribute_not_exists(#owner) OR #owner = :owner OR #until < :now",
            ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
            ExpressionAttributeValues=items.written({":owner": owner, ":now": int(now), ":until": int(until) + 1}),
        )
        return _if_its_condition_holds(take)

    def let_go(self, owner: str) -> None:
        """Give the lease back, unless it is somebody else's by now."""
        give = partial(
            self._client.update_item,
            TableName=self._name,
            Key=_key(_PEN),
            UpdateExpression="REMOVE #owner, #until",
            ConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
            ExpressionAttributeValues=items.written({":owner": owner}),
        )
        _if_its_condition_holds(give)

    def _refuse_other_names(self, made_for: dict[str, str]) -> None:
        for name, value in self._made_for.items():
            if made_for[name] != value:
                message = (
                    f"{name} is {value}, and was {made_for[name]} when accounts were enrolled: set it back, or uninstall first "
                    '(retire with {"accounts": "all", "force": true}), or deploy a second stage beside this one'
                )
                raise SettingsError(message)

    def _index(self, name: str) -> int | None:
        first = self._settings.source_policy_name
        if name == first:
            return 0
        base, _, number = name.rpartition("-")
        return int(number) - 1 if base == first and _FURTHER.fullmatch(number) else None


def _if_its_condition_holds(write: Callable[[], object]) -> bool:
    """Write, or tell by False that the write's condition doesn't hold."""
    try:
        write()
    except ClientError as error:
        if error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def _is_conflict(error: ClientError) -> bool:
    """Tell whether others wrote at the same time; a transaction is canceled for what no other try would mend, too."""
    reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
    return error_code(error) in _CONFLICTS and reasons <= {"None", "ConditionalCheckFailed", "TransactionConflict"}


def _despite_conflicts(write: Callable[[], Any]) -> None:
    """Write again where a placement on the same item at the same moment is in the way, as DynamoDB asks one to."""
    for _ in range(_ATTEMPTS - 1):
        try:
            write()
        except ClientError as error:
            if not _is_conflict(error):
                raise
        else:
            return
    write()


def _key(name: str) -> dict[str, Any]:
    return items.written({"policy_name": name})


# One text, since botocore takes ten times as long over a set of thousands.
def _text(account_ids: Iterable[AccountId]) -> str:
    return ",".join(sorted(account_ids))


def _ids(item: dict[str, Any], name: str) -> frozenset[AccountId]:
    """Read what `_text` wrote, or the set that an earlier release did."""
    written = item.get(name, "")
    text = written if isinstance(written, str) else ",".join(written)
    if not _IDS.fullmatch(text):
        message = f"{name} holds what is no account id"
        raise ValueError(message)
    return frozenset(map(AccountId, text.split(",") if text else ()))


def _count(item: dict[str, Any], name: str, least: int = 0) -> int:
    value = item.get(name, Decimal(0))
    if not (isinstance(value, Decimal) and least <= value <= _MOST_COUNTED and value % 1 == 0):
        message = f"{name} is {value!r}, which is no count"
        raise ValueError(message)
    return int(value)


def _of_type(item: dict[str, Any], name: str, default: _Read) -> _Read:
    value = item.get(name, default)
    if not isinstance(value, type(default)):
        message = f"{name} is {value!r}"
        raise TypeError(message)
    return value


def _shard(item: dict[str, Any]) -> Shard:
    return Shard(
        name=item["policy_name"],
        accounts=_ids(item, "accounts"),
        excluded=_ids(item, "excluded"),
        frozen=_of_type(item, "frozen", default=False),
        version=_count(item, "version", least=1),
        written=_count(item, "written"),
        form=_of_type(item, "form", default=""),
        attached=frozenset(parse_principal(arn).arn for arn in _of_type(item, "attached", default=set[str]())),
    )
