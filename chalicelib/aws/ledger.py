"""The ledger: a table with one row for each account, its status and the reason for it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from chalicelib.accounts import Access, Change, LedgerRow, Outcome
from chalicelib.arns import AccountId, is_account_id
from chalicelib.aws import items
from chalicelib.aws.errors import error_code
from chalicelib.chunks import chunked
from chalicelib.errors import Reason, RolecallError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_BATCH = 100  # keys of one BatchGetItem ("Quotas in Amazon DynamoDB")
_ASKS = 10
_MAX_COUNT = 10**15
_KNOWN = {field.name for field in fields(LedgerRow)}
_ENROLLS = tuple(
    sorted(_KNOWN - {"account_id", "in_force_since", "marked_for", "retirement_requested_at"})
)  # The attributes that enroll writes.
_OUTCOMES, _CHANGES, _REASONS = ({each.value: each for each in words} for words in (Outcome, Change, Reason))
del _OUTCOMES[Outcome.PENDING]  # which is shown and never stored
_ACCESSES: dict[str | None, Access] = {access.value: access for access in Access}


class AccessRow(NamedTuple):
    """What publish and a sweep's end read of every row: parsing all attributes would take several times as long."""

    account_id: AccountId
    access: Access | None
    in_force_since: str | None
    enrolled_at: str | None
    joined_at: str | None
    trigger: str | None
    reason: str | None = None
    outcome_since: str | None = None

    @property
    def has_access(self) -> bool:
        """Whether the account is to be granted, or still is."""
        return self.access is Access.GRANTED or self.in_force_since is not None


class Ledger:
    """Reads and writes rows."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        """Take a client and the table's name."""
        self._client = client
        self._name = table

    def read(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        """Return the rows of some accounts; those without a row are omitted."""
        keys = (items.written({"account_id": account_id}) for account_id in dict.fromkeys(account_ids))
        rows: dict[AccountId, LedgerRow] = {}
        for chunk in chunked(keys, _BATCH):
            wanted: Any = {self._name: {"Keys": chunk, "ConsistentRead": True}}
            for _ in range(_ASKS):
                answer = self._client.batch_get_item(RequestItems=wanted)
                for item in answer["Responses"].get(self._name, []):
                    row = parse_row(item)
                    rows[row.account_id] = row
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                message = f"DynamoDB left keys of {self._name} unread {_ASKS} times in a row"
                raise RolecallError(message)
        return rows

    def rows(self) -> Iterator[LedgerRow]:
        """Yield every account's row, page by page; other items in the table are omitted."""
        rows = map(parse_row, items.scan(self._client, self._name))
        return (row for row in rows if is_account_id(row.account_id))

    def accesses(self) -> Iterator[AccessRow]:
        """Yield the access of every account's row, page by page."""
        found = items.scan(
            self._client,
            self._name,
            ProjectionExpression=(
                "account_id, #access, in_force_since, enrolled_at, joined_at, #trigger, #reason, outcome_since"
            ),
            ExpressionAttributeNames={"#access": "access", "#trigger": "trigger", "#reason": "reason"},
        )
        return (row for row in map(_access_row, found) if is_account_id(row.account_id))

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        """Write the attributes that enroll owns, or return False if the row's revision is no longer the one that was read.

        The attributes of other writers (in_force_since, retirement_requested_at) stay as they are.
        """
        return self._write(row, over, _ENROLLS)

    def write_marked(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        """Write the attributes that enroll owns in scope none, including `in_force_since`; see `write`."""
        return self._write(row, over, (*_ENROLLS, "in_force_since"))

    def _write(self, row: LedgerRow, over: LedgerRow | None, names: tuple[str, ...]) -> bool:
        revision = over.revision if over else 0
        held = asdict(replace(row, revision=revision + 1))
        change, values = items.set_and_remove({name: held[name] for name in names})
        # An edited row may have no revision that can be read.
        condition = "#revision = :read" if revision else "attribute_not_exists(#revision) OR NOT #revision > :read"
        return self._update(row.account_id, change, condition, names=names, values=values | {":read": revision})

    def request_retirement(self, account_id: AccountId, moment: str | None) -> bool:
        """Mark an account's row as retired by request, or remove the mark; return False if there is no row.

        An invocation of enroll that has read the row finds another revision, and retries.
        """
        change = "SET retirement_requested_at = :moment" if moment else "REMOVE retirement_requested_at"
        values: dict[str, Any] = {":one": 1} | ({":moment": moment} if moment else {})
        condition = "attribute_exists(account_id)"
        try:
            return self._update(account_id, f"{change} ADD revision :one", condition, values=values)
        except ClientError as error:
            if error_code(error) != "ValidationException":
                raise
        # The revision was edited, and is no number.
        change = f"{change}, revision = :one" if moment else f"SET revision = :one {change}"
        return self._update(account_id, change, condition, values=values)

    def set_in_force(self, row: AccessRow, since: str | None) -> None:
        """Record since when the source policy grants an account, or that it doesn't.

        A deleted row is not created again. The row is as it was read: `marked_for` shows later whether it had another
        outcome already.
        """
        marks = {"in_force_since": since, "marked_for": row.outcome_since}
        change, values = items.set_and_remove(marks)
        condition = "attribute_exists(account_id)"
        self._update(row.account_id, change, condition, names=tuple(marks), values=values)

    def _update(
        self,
        account_id: AccountId,
        change: str,
        condition: str,
        *,
        values: dict[str, Any],
        names: tuple[str, ...] = (),
    ) -> bool:
        key = {"account_id": account_id}
        return items.update(self._client, self._name, key, change, condition=condition, names=names, values=values)


def _access_row(item: dict[str, Any]) -> AccessRow:
    values = (item.get(name, {}).get("S") for name in AccessRow._fields[2:])
    return AccessRow(item["account_id"].get("S", ""), _ACCESSES.get(item.get("access", {}).get("S")), *values)


def parse_row(item: dict[str, Any]) -> LedgerRow:
    """Parse an item; an attribute that is missing or has another type, as in an edited row, gets its default."""
    texts = {name: value["S"] for name, value in item.items() if name in _KNOWN and "S" in value}
    outcome, change, reason = (texts.get(name, "") for name in ("outcome", "change", "reason"))
    before, why_before = texts.get("previous_outcome", ""), texts.get("previous_reason", "")
    return LedgerRow(
        **{
            **texts,
            "outcome": _OUTCOMES.get(outcome, Outcome.FAILED),
            "change": _CHANGES.get(change, Change.NONE),
            "reason": _REASONS.get(reason),
            "previous_outcome": _OUTCOMES.get(before),
            "previous_reason": _REASONS.get(why_before),
            "access": _ACCESSES.get(texts.get("access")),
            "attempts": _count(item.get("attempts", {}).get("N", "0")),
            "revision": _count(item.get("revision", {}).get("N", "0")),
            "updated_at": texts.get("updated_at", ""),
        }
    )


def _count(written: str) -> int:
    # DynamoDB allows numbers that boto3 can't parse.
    return int(min(max(Decimal(written), Decimal(0)), Decimal(_MAX_COUNT)))
