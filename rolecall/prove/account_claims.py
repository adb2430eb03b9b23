"""The accounts to test, and what is claimed of each."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId, role_arn
from chalicelib.settings import Settings
from rolecall.errors import CommandError
from rolecall.prove.evidence import DATA_READ, AccountClaims, Claim

OUTSIDE_ACCOUNT = AccountId("000000000000")
"""An id outside the organization, tested if every account of the organization is enrolled."""


def select_accounts(
    settings: Settings,
    rows: Iterable[LedgerRow],
    listed: Iterable[Account],
    *,
    named: Sequence[AccountId] = (),
    sample: int | None = None,
) -> list[AccountClaims]:
    """Return the accounts to test, the enrolled ones first: those named, otherwise all or a random sample of each kind.

    An account that is pending or failing may have access, so it counts as neither kind. It is tested only if it is named, as an
    enrolled one.
    """
    known = {row.account_id: row for row in rows}
    names = {row.account_id: row.name or "" for row in known.values()} | {each.id: each.name for each in listed}
    chosen = list(dict.fromkeys(named)) or sorted(names)
    inside = [each for each in chosen if (_may_have_access if named else _is_enrolled)(known.get(each))]
    outside = [each for each in chosen if not _may_have_access(known.get(each))]
    if not outside:
        outside = [each for each in sorted(names) if not _may_have_access(known.get(each))][:1] or [OUTSIDE_ACCOUNT]
    if sample is not None:
        inside, outside = _sample(inside, sample), _sample(outside, sample)
    if not inside and not named:
        raise CommandError(f"no account is enrolled in stage {settings.stage}: enroll accounts with rolecall backfill")
    return [
        *_with_claims(settings, inside, known, names, tuple(_enrolled_claims(settings))),
        *_with_claims(settings, outside, known, names, (Claim.NOT_ASSUMABLE,)),
    ]


def _enrolled_claims(settings: Settings) -> Iterator[Claim]:
    yield Claim.ASSUMED
    yield Claim.READ
    if settings.denies(DATA_READ):
        yield Claim.DATA_DENIED
    if settings.external_id is not None:
        yield Claim.EXTERNAL_ID_REQUIRED


def _is_enrolled(row: LedgerRow | None) -> bool:
    return row is not None and shown_outcome(row)[0] is Outcome.ENROLLED


def _may_have_access(row: LedgerRow | None) -> bool:
    return row is not None and (row.in_force_since is not None or row.outcome is Outcome.ENROLLED)


def _sample(account_ids: list[AccountId], count: int) -> list[AccountId]:
    """Return an unpredictable sample, which an auditor can rely on."""
    return sorted(secrets.SystemRandom().sample(account_ids, min(count, len(account_ids))))


def _with_claims(
    settings: Settings,
    account_ids: Iterable[AccountId],
    known: Mapping[AccountId, LedgerRow],
    names: Mapping[AccountId, str],
    claims: tuple[Claim, ...],
) -> Iterator[AccountClaims]:
    for account_id in account_ids:
        row = known.get(account_id)
        status = "not in the ledger" if account_id in names else "not in the organization"
        if row is not None:
            outcome, reason = shown_outcome(row)
            status = f"{outcome}: {reason}" if reason else str(outcome)
        yield AccountClaims(
            account_id=account_id,
            name=names.get(account_id, ""),
            role_arn=role_arn(settings.partition, account_id, settings.member_role_name),
            status=status,
            claims=claims,
        )
