"""Names for accounts that are safe wherever a reader's configuration needs one, whatever an account is called."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId

# With a prefix and an account's id, what is left of the 63 bytes of a PostgreSQL schema, which Steampipe makes of a name.
_LONGEST = 46
_LIKE_ANOTHERS = re.compile(r"[0-9]{12}$")


def profile_names(rows: Iterable[LedgerRow], taken: Iterable[str] = ()) -> dict[AccountId, str]:
    """Name each account by lower-case letters, digits and hyphens; names that several would have, or are taken, end in the id.

    What an account is named depends on the other accounts' names alone, not on their order.
    """
    plain = {row.account_id: _plain(row.name or "") for row in rows}
    held = Counter([*plain.values(), *taken])
    return {account_id: _named(account_id, name, held[name]) for account_id, name in plain.items()}


def _named(account_id: AccountId, name: str, held: int) -> str:
    if not name:
        return account_id
    # One that ends like another's id could be what another is named.
    return f"{name}-{account_id}" if held > 1 or _LIKE_ANOTHERS.search(name) else name


def _plain(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:_LONGEST].rstrip("-")
