"""By which outcome an account is listed; status, report, accounts and a sweep count the same."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Account, LedgerRow, Outcome, listed_outcome, why_ineligible
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Control, Problem, Records
from chalicelib.sweep.gauges import Tally
from rolecall.accounts import Filter, select
from rolecall.report import compose_report
from rolecall.report_accounts import WAITING
from rolecall.report_data import Origin
from rolecall.status import count_coverage
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, WORKED, account, numbered, records, row
from tests.unit.reported import UNITS

ID = numbered(1)
PENDING = (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING)


@pytest.mark.parametrize(
    ("found", "ineligible", "expected"),
    [
        (None, None, (None, None)),
        (None, Reason.EXCLUDED, (Outcome.SKIPPED, Reason.EXCLUDED)),
        (row(ID), None, (Outcome.ENROLLED, None)),
        (row(ID, in_force_since=None), None, (Outcome.PENDING, Reason.QUOTA)),
        (row(ID, Outcome.RETIRED, reason=Reason.SUSPENDED), None, (None, None)),
        (row(ID, Outcome.RETIRED, reason=Reason.CLOSED), Reason.CLOSED, (Outcome.RETIRED, Reason.CLOSED)),
        (row(ID, Outcome.SKIPPED), Reason.CLOSED, (Outcome.SKIPPED, Reason.CLOSED)),
        (row(ID, Outcome.RETIRED, reason=Reason.CLOSED, in_force_since=WORKED), Reason.CLOSED, PENDING),
        # No pass has found yet that these are no longer eligible.
        (row(ID), Reason.EXCLUDED, PENDING),
        (row(ID, Outcome.FAILED, reason=Reason.QUOTA), Reason.EXCLUDED, (Outcome.SKIPPED, Reason.EXCLUDED)),
    ],
)
def test_outcome_follows_from_the_row_and_the_eligibility(
    found: LedgerRow | None, ineligible: Reason | None, expected: tuple[Outcome | None, Reason | None]
) -> None:
    assert listed_outcome(found, ineligible, Reason.QUOTA) == expected


_NUMBERS = st.integers(1, 6).map(numbered)
_LISTED = st.dictionaries(_NUMBERS, st.sampled_from(["ACTIVE", "SUSPENDED", "CLOSED"]))
_ROWS = st.dictionaries(
    _NUMBERS,
    st.builds(
        lambda outcome, reason, since: row(ID, outcome, reason=reason, in_force_since=since),
        st.sampled_from([Outcome.ENROLLED, Outcome.SKIPPED, Outcome.FAILED, Outcome.RETIRED]),
        st.sampled_from([Reason.QUOTA, Reason.CLOSED, None]),
        st.sampled_from([WORKED, None]),
    ),
)
_RECORDS = st.builds(
    lambda uninstalling, blocked: records(control=Control(uninstalling=uninstalling), blocked=blocked),
    st.booleans(),
    st.sampled_from([None, Problem(Reason.QUOTA, "full")]),
)


def reported(accounts: list[Account], rows: list[LedgerRow], found: Records, used: Settings) -> Counter[str]:
    origin = Origin(organization_id="o-1", region="us-east-1", generated_at=NOW, generated_by="arn")
    units = {unit.id: unit for unit in UNITS}
    return Counter(each.outcome for each in compose_report(origin, used, units, accounts, rows, found).accounts)


@given(_LISTED, _ROWS, _RECORDS)
def test_counts_agree(states: dict[AccountId, str], found: dict[AccountId, LedgerRow], recorded: Records) -> None:
    accounts = [account(account_id, state=state) for account_id, state in states.items()]
    rows = [replace(each, account_id=account_id) for account_id, each in found.items()]
    used = settings(EXCLUDE_ACCOUNT_IDS=numbered(2))

    covered = count_coverage(accounts, rows, recorded, used)

    counted = Counter(
        {
            Outcome.ENROLLED: covered.enrolled,
            Outcome.PENDING: covered.pending,
            Outcome.SKIPPED: sum(covered.skipped.values()),
            Outcome.FAILED: sum(covered.failing.values()),
            Outcome.RETIRED: sum(covered.retired.values()),
            WAITING: covered.waiting,
        }
    )
    entries = select(rows, accounts, Filter(), recorded, used)
    assert counted == Counter(entry.shown[0] or WAITING for entry in entries)
    assert counted == reported(accounts, rows, recorded, used)
    assert covered.percent is None if covered.eligible == 0 else covered.enrolled <= covered.eligible
    tally = Tally()
    for each in accounts:
        own = next((one for one in rows if one.account_id == each.id), None)
        tally.count(each, own, why_ineligible(each, own, used, uninstalling=recorded.control.uninstalling), NOW)
    if states.keys() >= found.keys():
        counts = tally.counts()
        assert (counts["eligible"], counts["enrolled"], counts["pending"]) == (
            covered.eligible,
            covered.enrolled,
            covered.pending,
        )
        assert (counts["skipped"], counts["retired"], counts["failing"]) == (
            covered.skipped,
            covered.retired,
            covered.failing,
        )
