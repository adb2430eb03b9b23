"""Names for accounts that are safe in every tool's configuration, whatever the account's own name is."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId

# Steampipe turns a name into a PostgreSQL schema of at most 63 bytes: this is what a prefix and an account id leave.
_MAX_NAME_CHARS = 46
# Latin letters that don't decompose into a letter and accents.
_LETTERS = str.maketrans(
    dict(
        zip(
            "æœøßþŋĸəłđðħŧƒ\N{LATIN SMALL LETTER DOTLESS I}",
            ["ae", "oe", "o", "ss", "th", "ng", "k", "e", "l", "d", "d", "h", "t", "f", "i"],
            strict=True,
        )
    )
)
_ENDS_LIKE_AN_ID = re.compile(r"[0-9]{12}$")


def profile_names(rows: Iterable[LedgerRow], reserved: Iterable[str] = ()) -> dict[AccountId, str]:
    """Map each account to a unique name of lower-case letters, digits and hyphens.

    A name that is reserved or shared by several accounts gets the account id as its suffix. The result doesn't depend on the
    order of the rows.
    """
    names = {row.account_id: _safe(row.name or "") for row in rows}
    uses = Counter([*names.values(), *reserved])
    return {account_id: _unique(account_id, name, uses[name]) for account_id, name in names.items()}


def _unique(account_id: AccountId, name: str, uses: int) -> str:
    if not name:
        return account_id
    # A name that ends like an account id could equal another account's name with its suffix.
    return f"{name}-{account_id}" if uses > 1 or _ENDS_LIKE_AN_ID.search(name) else name


def _safe(name: str) -> str:
    """Return a name without accents, in which every other run of characters is a hyphen."""
    letters = unicodedata.normalize("NFKD", name).lower().translate(_LETTERS)
    plain = "".join(each for each in letters if not unicodedata.combining(each))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_NAME_CHARS].rstrip("-")
