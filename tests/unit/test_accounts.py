from datetime import UTC, datetime

import pytest

from chalicelib.accounts import Account, eligibility, moment
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from tests.unit.builders import MANAGEMENT, MEMBER, settings

OU, PARENT, OTHER = "ou-ab12-11111111", "ou-ab12-22222222", "ou-ab12-33333333"


def account(
    account_id: AccountId = MEMBER, *, state: str = "ACTIVE", ou_ids: tuple[str, ...] = (PARENT, OU)
) -> Account:
    return Account(
        id=account_id, name="payments", state=state, joined_at=datetime(2026, 1, 1, tzinfo=UTC), ou_ids=ou_ids
    )


@pytest.mark.parametrize(
    ("subject", "changes", "reason"),
    [
        (account(), {}, None),
        (account(state="SOMETHING_NEW"), {}, None),
        (account(state="PENDING_ACTIVATION"), {}, Reason.PENDING_ACTIVATION),
        (account(state="SUSPENDED"), {}, Reason.SUSPENDED),
        (account(state="PENDING_CLOSURE"), {}, Reason.PENDING_CLOSURE),
        (account(state="CLOSED"), {}, Reason.CLOSED),
        (account(MANAGEMENT), {}, None),
        (account(MANAGEMENT), {"INCLUDE_MANAGEMENT_ACCOUNT": "false"}, Reason.EXCLUDED),
        (account(), {"INCLUDE_MANAGEMENT_ACCOUNT": "false"}, None),
        (account(), {"EXCLUDE_ACCOUNT_IDS": MEMBER}, Reason.EXCLUDED),
        (account(), {"EXCLUDE_ACCOUNT_IDS": MANAGEMENT}, None),
        (account(), {"EXCLUDE_OU_IDS": OU}, Reason.EXCLUDED),
        (account(), {"EXCLUDE_OU_IDS": PARENT}, Reason.EXCLUDED),
        (account(), {"EXCLUDE_OU_IDS": OTHER}, None),
        (account(), {"INCLUDE_OU_IDS": OU}, None),
        (account(), {"INCLUDE_OU_IDS": f"{OTHER},{PARENT}"}, None),
        (account(), {"INCLUDE_OU_IDS": OTHER}, Reason.EXCLUDED),
        (account(ou_ids=()), {"INCLUDE_OU_IDS": OTHER}, Reason.EXCLUDED),
        (account(), {"INCLUDE_OU_IDS": PARENT, "EXCLUDE_OU_IDS": OU}, Reason.EXCLUDED),
        (account(), {"INCLUDE_OU_IDS": OU, "EXCLUDE_ACCOUNT_IDS": MEMBER}, Reason.EXCLUDED),
        (account(state="CLOSED"), {"EXCLUDE_ACCOUNT_IDS": MEMBER}, Reason.EXCLUDED),
    ],
)
def test_an_account_is_eligible_unless_its_state_or_a_setting_says_no(
    subject: Account, changes: dict[str, str], reason: Reason | None
) -> None:
    assert eligibility(subject, settings(**changes)) is reason


@pytest.mark.parametrize("written", [None, "", "yesterday", "2026-01-01T00:00:00"])
def test_a_rows_time_that_is_missing_or_broken_is_long_past(written: str | None) -> None:
    assert moment(written) <= datetime(2026, 1, 1, tzinfo=UTC)
