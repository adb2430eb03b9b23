"""A shard's policy document: built, parsed, and how many accounts fit in it."""

import hashlib
from typing import Any

from chalicelib.arns import AccountId, is_account_id, role_arn
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role import ASSUME_ACTIONS
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import ShardContent

POLICY_LIMIT = 6144
"""Characters of a managed policy, not adjustable ("IAM and AWS STS quotas")."""

# IAM rejects an empty list, and no account has this id.
_NO_ACCOUNT = AccountId("000000000000")
_LONGEST_ORGANIZATION_ID = "o-" + 32 * "x"  # Organization in the "AWS Organizations API Reference"


def capacity(settings: Settings) -> int:
    """Return how many account ids fit one shard, with room kept for the freeze."""
    return _ids_that_fit(settings, ShardContent(accounts=frozenset({_NO_ACCOUNT}), frozen=True))


def _ids_that_fit(settings: Settings, one: ShardContent) -> int:
    each = len(f'"{_NO_ACCOUNT}",')
    return (POLICY_LIMIT - document(settings, one, _LONGEST_ORGANIZATION_ID).size) // each + 1


def exclusion_capacity(settings: Settings) -> int:
    """Return how many accounts the organization's statement can exclude, with room kept for the freeze."""
    one = ShardContent(excluded=frozenset({_NO_ACCOUNT}), scope=Scope.ORGANIZATION, frozen=True)
    return _ids_that_fit(settings, one)


def document(settings: Settings, content: ShardContent, organization_id: str) -> Document:
    """Build a shard's policy document.

    `aws:ResourceOrgID` keeps every grant inside the organization, whatever account ids the ledger holds.
    """
    condition: dict[str, Any] = {"StringEquals": {"aws:ResourceOrgID": organization_id}}
    if content.scope is Scope.ACCOUNTS:
        condition["StringEquals"]["aws:ResourceAccount"] = sorted(content.accounts) or [_NO_ACCOUNT]
    elif content.excluded:
        condition["StringNotEquals"] = {"aws:ResourceAccount": sorted(content.excluded)}
    member_roles = role_arn(settings.partition, "*", settings.member_role_name)
    allow = {"Effect": "Allow", "Action": list(ASSUME_ACTIONS), "Resource": member_roles, "Condition": condition}
    deny = {"Sid": "Frozen", "Effect": "Deny", "Action": ASSUME_ACTIONS[0], "Resource": member_roles}
    statements = [allow, deny] if content.frozen else [allow]
    return Document.of({"Version": "2012-10-17", "Statement": statements})


def parse(text: Document, settings: Settings, organization_id: str) -> ShardContent | None:
    """Parse a shard's document, or return None for one that `document` would not have built."""
    try:
        allow, *rest = text.content["Statement"]
        equals, unequal = allow["Condition"]["StringEquals"], allow["Condition"].get("StringNotEquals", {})
        named, excluded = equals.get("aws:ResourceAccount"), unequal.get("aws:ResourceAccount", [])
        content = ShardContent(
            accounts=_account_ids(named or []) - {_NO_ACCOUNT},
            excluded=_account_ids(excluded),
            scope=Scope.ORGANIZATION if named is None else Scope.ACCOUNTS,
            frozen=bool(rest),
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return content if document(settings, content, organization_id) == text else None


def _account_ids(values: object) -> frozenset[AccountId]:
    listed = values if isinstance(values, list) else [values]
    if not all(map(is_account_id, listed)):
        message = "not a list of account ids"
        raise ValueError(message)
    return frozenset(map(AccountId, listed))


def digest(settings: Settings, content: ShardContent, organization_id: str) -> str:
    """Return a digest of a shard's document without the account ids, by which changed settings are found."""
    bare = ShardContent(scope=content.scope)
    return hashlib.sha256(document(settings, bare, organization_id).text.encode()).hexdigest()[:16]


def check_sizes(settings: Settings) -> None:
    """Raise SettingsError if the settings leave a shard no room for an account, or for the excluded accounts."""
    if len(settings.exclude_account_ids) > exclusion_capacity(settings):
        message = f"EXCLUDE_ACCOUNT_IDS contains {len(settings.exclude_account_ids)} accounts: too many for one policy in scope organization"
        raise SettingsError(message)
