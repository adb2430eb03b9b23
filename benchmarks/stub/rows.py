"""The ledger's rows of accounts that were enrolled before."""

from collections.abc import Iterator

from benchmarks.deployment import ENVIRON
from benchmarks.stub.kinds import Kind, account_id
from benchmarks.stub.tables import Item


def ledger_rows(kind: Kind, count: int) -> tuple[str, Iterator[Item]]:
    """Write the rows of so many accounts, for their table."""
    return ENVIRON["LEDGER_TABLE"], (ledger_row(account_id(kind, number)) for number in range(count))


def ledger_row(account_id: str) -> Item:
    """Write the row of an account that was enrolled before."""
    texts = {
        "account_id": account_id,
        "name": f"Account {account_id}",
        "outcome": "enrolled",
        "change": "none",
        "role_arn": f"arn:aws:iam::{account_id}:role/CrossAccountReadOnlyRole",
        "fingerprint": "0123456789abcdef",
        "policy_name": "CrossAccountReadOnlyAccess",
        "trigger": "resync",
        "access_role": "OrganizationAccountAccessRole",
        "joined_at": "2024-01-01T00:00:00+00:00",
        "enrolled_at": "2024-01-02T00:00:00.000000+00:00",
        "updated_at": "2024-01-03T00:00:00.000000+00:00",
    }
    return {**{name: {"S": text} for name, text in texts.items()}, "attempts": {"N": "0"}}
