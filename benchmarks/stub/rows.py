"""Ledger rows, and the updates by which enroll and publish write them."""

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.deployment import ENVIRON
from benchmarks.stub.role_states import RoleState, account_id
from benchmarks.stub.tables import Item

_OF_PUBLISH = {"account_id", "in_force_since"}  # not written by enroll
_ABSENT = ("reason", "error", "failed_at", "attempted_fingerprint")


def ledger_rows(role_state: RoleState, numbers: Iterable[int], *, in_force: bool) -> tuple[str, Iterator[Item]]:
    """Return the ledger's name and the rows of enrolled accounts with these numbers."""
    return ENVIRON["LEDGER_TABLE"], (
        ledger_row(account_id(role_state, number), in_force=in_force) for number in numbers
    )


def ledger_row(account_id: str, *, in_force: bool = True) -> Item:
    """Return the row of an account that was enrolled, and if `in_force` published, long ago."""
    texts = {
        "account_id": account_id,
        "name": f"Account {account_id}",
        "outcome": "enrolled",
        "change": "none",
        "access": "granted",
        "role_arn": f"arn:aws:iam::{account_id}:role/CrossAccountReadOnlyRole",
        "fingerprint": "0123456789ab",
        "trigger": "resync",
        "access_role": "OrganizationAccountAccessRole",
        "joined_at": "2024-01-01T00:00:00+00:00",
        "enrolled_at": "2024-01-02T00:00:00.000000+00:00",
        "updated_at": "2024-01-03T00:00:00.000000+00:00",
    }
    if in_force:
        texts["in_force_since"] = "2024-01-02T00:00:10.000000+00:00"
    return {**{name: {"S": text} for name, text in texts.items()}, "attempts": {"N": "0"}, "revision": {"N": "1"}}


def row_update(account_id: str) -> dict[str, Any]:
    """Return the request by which enroll writes the row of an account, whatever its revision."""
    present = {name: value for name, value in ledger_row(account_id).items() if name not in _OF_PUBLISH}
    return {
        "TableName": ENVIRON["LEDGER_TABLE"],
        "Key": {"account_id": {"S": account_id}},
        "UpdateExpression": (
            f"SET {', '.join(f'#{name} = :{name}' for name in present)} REMOVE {', '.join(f'#{name}' for name in _ABSENT)}"
        ),
        "ConditionExpression": "attribute_not_exists(#revision) OR NOT #revision > :read",
        "ExpressionAttributeNames": {f"#{name}": name for name in (*present, *_ABSENT)},
        "ExpressionAttributeValues": {f":{name}": value for name, value in present.items()} | {":read": {"N": "1000"}},
    }


def row_mark(account_id: str) -> dict[str, Any]:
    """Return the request by which publish records that the access of an account is in force."""
    return {
        "TableName": ENVIRON["LEDGER_TABLE"],
        "Key": {"account_id": {"S": account_id}},
        "UpdateExpression": "SET in_force_since = :since",
        "ConditionExpression": "attribute_exists(account_id)",
        "ExpressionAttributeValues": {":since": {"S": "2024-01-02T00:00:10.000000+00:00"}},
    }
