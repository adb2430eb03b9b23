"""A deployment's tables: the ledger, and the records of the source policy."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from tests.integration.deployment import Deployment
from tests.integration.organization import SOURCE_POLICY


class Tables(Deployment):
    """The rows of accounts and the items of the source-policy table."""

    # The ledger.

    def row(self, account_id: str) -> dict[str, Any]:
        """Return an account's row; empty if there is none."""
        row: dict[str, Any] = self.ledger.get_item(Key={"account_id": account_id}).get("Item", {})
        return row

    def status(self, account_id: str) -> tuple[str | None, str | None]:
        """Return the outcome and reason that are shown of an account."""
        return _status(self.row(account_id))

    def statuses(self) -> dict[str, tuple[str | None, str | None]]:
        """Return the outcome and reason that are shown of each row."""
        rows: Any = self.ledger.scan()["Items"]
        return {row["account_id"]: _status(row) for row in rows}

    def put_row(self, account_id: str, **attributes: Any) -> None:
        self.ledger.put_item(Item={"account_id": account_id, **attributes})

    def put_rows(self, count: int, access: str) -> list[str]:
        """Put the rows of many accounts; those that are granted are in force."""
        accounts = [f"9{number:011}" for number in range(count)]
        row = {"access": access, "outcome": "enrolled" if access == "granted" else "skipped", "updated_at": ""}
        if access == "granted":
            row["in_force_since"] = "2026-01-01T00:00:00.000000+00:00"
        with self.ledger.batch_writer() as batch:
            for account_id in accounts:
                batch.put_item(Item={"account_id": account_id, **row})
        return accounts

    def delete_row(self, account_id: str) -> None:
        self.ledger.delete_item(Key={"account_id": account_id})

    def age_row(self, account_id: str, **ago: float) -> None:
        """Date an account's last pass, and its first failure, some time back."""
        row = self.row(account_id)
        then = (datetime.now(UTC) - timedelta(**ago)).isoformat(timespec="microseconds")
        self.ledger.put_item(Item={**row, **{key: then for key in ("updated_at", "failed_at") if key in row}})

    # The source-policy table.

    def item(self, key: str) -> dict[str, Any]:
        """Return an item of the source-policy table; empty if there is none."""
        item: dict[str, Any] = self.records.get_item(Key={"policy_name": key}).get("Item", {})
        return item

    def items(self) -> dict[str, dict[str, Any]]:
        """Return every item of the source-policy table by its key."""
        items: Any = self.records.scan()["Items"]
        return {item["policy_name"]: item for item in items}

    def edit(self, key: str, **attributes: Any) -> None:
        """Change attributes of an item of the source-policy table; None removes one."""
        item = {**self.item(key), "policy_name": key, **attributes}
        self.records.put_item(Item={name: value for name, value in item.items() if value is not None})

    def delete_items(self, *keys: str) -> None:
        """Delete items of the source-policy table, all of them by default."""
        for key in keys or tuple(self.items()):
            self.records.delete_item(Key={"policy_name": key})

    def recorded(self, name: str = SOURCE_POLICY) -> set[str]:
        """Return the accounts that a shard grants by its record, as last applied."""
        return set(filter(None, self.item(name)["applied"]["accounts"].split(",")))

    def set_recorded(self, name: str, account_ids: Collection[str], *, excluded: bool = False) -> None:
        """Have a shard's record grant, or in scope organization exclude, exactly these accounts."""
        changed = {"excluded" if excluded else "accounts": ",".join(sorted(account_ids))}
        self.edit(name, applied={**self.item(name)["applied"], **changed})

    def full_shard(self, *account_ids: str) -> list[str]:
        """Return as many accounts as a shard holds, among them the given ones."""
        room = capacity(Settings.from_env(self.environ)) - len(account_ids)
        return [*account_ids, *(f"9{number:011}" for number in range(room))]

    def age_records(self, **ago: float) -> None:
        """Date every time in the source-policy table back."""
        for key, item in self.items().items():
            times = {name: datetime.fromisoformat(value) for name, value in item.items() if name.endswith("_at")}
            earlier = {name: value - timedelta(**ago) for name, value in times.items()}
            self.edit(key, **{name: value.isoformat(timespec="microseconds") for name, value in earlier.items()})

    def hold_lease(self, *, seconds: float = 20.0, owner: str = "another-run") -> None:
        """Have another run hold the run lease."""
        self.records.update_item(
            Key={"policy_name": "#status"},
            UpdateExpression="SET run_owner = :owner, run_until = :until",
            ExpressionAttributeValues={":owner": owner, ":until": int(self.organization.clock() + seconds)},
        )

    def expire_lease(self) -> None:
        """Let a lease that a run kept, as after a call with an unknown outcome, expire."""
        left = float(self.item("#status").get("run_until", 0)) - self.organization.clock()
        if left > 0:
            self.organization.clock.pause(left + 1)


def _status(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    in_force, outcome = "in_force_since" in row, row.get("outcome")
    if (outcome == "enrolled" and not in_force) or (outcome in {"skipped", "retired"} and in_force):
        return "pending", "source_policy_pending"
    return outcome, row.get("reason")
