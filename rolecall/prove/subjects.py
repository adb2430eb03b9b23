"""Which accounts are tried, and what is claimed of each."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId, is_account_id, role_arn
from chalicelib.settings import Settings
from rolecall.errors import CommandError
from rolecall.prove.evidence import Claim, Subject

NOBODY = AccountId("000000000000")
"""Stands for an account outside the organization, where every account of it is enrolled."""


def subjects(
    settings: Settings,
    rows: Iterable[LedgerRow],
    listed: Iterable[Account],
    *,
    named: Sequence[str] = (),
    sample: int | None = None,
) -> list[Subject]:
    """List the accounts that are tried: those named, else all, or a random sample of each kind; enrolled ones come first.

    An account that fails or is pending, but may have access, is neither, and is tried only if it is named: as an enrolled one.
    """
    for account_id in named:
        if not is_account_id(account_id):
            raise CommandError(f"{account_id!r} is no account id: name twelve digits by --accounts")
    known = {row.account_id: row for row in rows}
    names = {row.account_id: row.name or "" for row in known.values()} | {each.id: each.name for each in listed}
    chosen = [AccountId(each) for each in dict.fromkeys(named)] or sorted({*names})
    inside = [each for each in chosen if (_is_reachable if named else _is_enrolled)(known.get(each))]
    outside = [each for each in chosen if not _is_reachable(known.get(each))]
    if not outside:
        outside = [each for each in sorted({*names}) if not _is_reachable(known.get(each))][:1] or [NOBODY]
    if sample is not None:
        inside, outside = _some(inside, sample), _some(outside, sample)
    if not inside and not named:
        raise CommandError(
            f"no account is enrolled in stage {settings.stage}, so there is nothing to prove yet: rolecall backfill"
        )
    return [
        *_subjects(settings, inside, known, names, tuple(_claims(settings))),
        *_subjects(settings, outside, known, names, (Claim.KEPT_OUT,)),
    ]


def _claims(settings: Settings) -> Iterator[Claim]:
    yield Claim.ASSUMED
    yield Claim.READ
    if settings.deny_data_reads:
        yield Claim.DATA_DENIED
    if settings.external_id is not None:
        yield Claim.EXTERNAL_ID_ASKED_FOR


def _is_enrolled(row: LedgerRow | None) -> bool:
    return row is not None and shown_outcome(row)[0] is Outcome.ENROLLED


def _is_reachable(row: LedgerRow | None) -> bool:
    return row is not None and (row.in_force_since is not None or row.outcome is Outcome.ENROLLED)


def _some(account_ids: list[AccountId], count: int) -> list[AccountId]:
    """Pick some at random, so that nobody knows beforehand which are tried."""
    return sorted(secrets.SystemRandom().sample(account_ids, min(count, len(account_ids))))


def _subjects(
    settings: Settings,
    account_ids: Iterable[AccountId],
    known: Mapping[AccountId, LedgerRow],
    names: Mapping[AccountId, str],
    claims: tuple[Claim, ...],
) -> Iterator[Subject]:
    for account_id in account_ids:
        row = known.get(account_id)
        standing = "not in the ledger"
        if row is not None:
            outcome, reason = shown_outcome(row)
            standing = f"{outcome}: {reason}" if reason else str(outcome)
        elif account_id not in names:
            standing = "not in the organization"
        yield Subject(
            account_id=account_id,
            name=names.get(account_id, ""),
            role_arn=role_arn(settings.partition, account_id, settings.member_role_name),
            standing=standing,
            claims=claims,
        )
