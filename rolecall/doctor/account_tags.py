"""The check that accounts have the tags by which the settings select them."""

from collections.abc import Sequence

from chalicelib.accounts import Account
from chalicelib.settings import Settings
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok

_NOT_USED = ok("accounts are not selected by tag")


def check_account_tags(accounts: Sequence[Account], settings: Settings) -> CheckResult:
    """Check that an account has one of IncludeTags; none may have one of ExcludeTags."""
    included = sum(account.has_tag(settings.include_tags) for account in accounts)
    excluded = sum(account.has_tag(settings.exclude_tags) for account in accounts)
    if settings.include_tags and not included:
        tags = ", ".join(
            sorted(f"{tag.key}={'*' if tag.value is None else tag.value}" for tag in settings.include_tags)
        )
        return failed(
            f"none of {len(accounts)} accounts has a tag of IncludeTags ({tags}), so none is enrolled",
            "aws organizations tag-resource --resource-id … --tags Key=…,Value=…; or rolecall deploy, with other IncludeTags",
        )
    counts = [f"{included} have one of IncludeTags"] if settings.include_tags else []
    counts += [f"{excluded} have one of ExcludeTags"] if settings.exclude_tags else []
    return ok(f"of {len(accounts)} accounts, {' and '.join(counts)}")


def _check(context: Context) -> CheckResult:
    if not context.settings.tag_keys:
        return _NOT_USED
    return check_account_tags(context.stage.accounts(), context.settings)


CHECKS = (Check(name="account tags", run=_check, permissions=("organizations:ListAccounts", "tag:GetResources")),)
