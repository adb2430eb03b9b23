from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from chalicelib.accounts import (
    INELIGIBLE_REASONS,
    RETRYABLE_REASONS,
    Access,
    Account,
    LedgerRow,
    Outcome,
    access_for,
    format_time,
    is_retry_pending,
    parse_time,
    shown_outcome,
    why_ineligible,
    why_not_selected,
)
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from tests.unit.builders import MANAGEMENT, MEMBER, settings

OU, PARENT, OTHER = "ou-ab12-11111111", "ou-ab12-22222222", "ou-ab12-33333333"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROW = LedgerRow(account_id=MEMBER, outcome=Outcome.ENROLLED, updated_at=NOW.isoformat())


def account(
    account_id: AccountId = MEMBER,
    *,
    state: str = "ACTIVE",
    ou_ids: tuple[str, ...] | None = (PARENT, OU),
    tags: dict[str, str | None] | None = None,
) -> Account:
    joined_at = datetime(2026, 1, 1, tzinfo=UTC)
    return Account(id=account_id, name="payments", state=state, joined_at=joined_at, ou_ids=ou_ids, tags=tags)


# --- Eligibility ------------------------------------------------------------------------------------------------------


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
        (account(), {"EXCLUDE_OU_IDS": PARENT}, Reason.EXCLUDED),
        (account(), {"EXCLUDE_OU_IDS": OTHER}, None),
        (account(), {"INCLUDE_OU_IDS": f"{OTHER},{PARENT}"}, None),
        (account(), {"INCLUDE_OU_IDS": OTHER}, Reason.EXCLUDED),
        (account(ou_ids=None), {"INCLUDE_OU_IDS": OTHER}, Reason.EXCLUDED),
        (account(), {"INCLUDE_OU_IDS": PARENT, "EXCLUDE_OU_IDS": OU}, Reason.EXCLUDED),
        (account(state="CLOSED"), {"EXCLUDE_ACCOUNT_IDS": MEMBER}, Reason.EXCLUDED),
        (account(tags={"env": "prod"}), {"INCLUDE_TAGS": "env=prod"}, None),
        (account(tags={"env": "Prod"}), {"INCLUDE_TAGS": "env=prod"}, Reason.EXCLUDED_BY_TAG),
        (account(tags={"env": None}), {"INCLUDE_TAGS": "env=prod"}, Reason.EXCLUDED_BY_TAG),
        (account(tags={"env": None, "team": ""}), {"INCLUDE_TAGS": "env=prod,team=*"}, None),
        (account(tags={"env": None}), {"INCLUDE_TAGS": "env=*"}, Reason.EXCLUDED_BY_TAG),
        (account(tags={"env": ""}), {"INCLUDE_TAGS": "env="}, None),
        (account(tags={"env": "prod"}), {"INCLUDE_TAGS": "env="}, Reason.EXCLUDED_BY_TAG),
        (account(), {"INCLUDE_TAGS": "env=*"}, Reason.EXCLUDED_BY_TAG),
        (account(), {"EXCLUDE_TAGS": "env=*"}, None),
        (account(tags={"env": "prod"}), {"EXCLUDE_TAGS": "env=dev"}, None),
        (account(tags={"env": "dev"}), {"EXCLUDE_TAGS": "env=dev"}, Reason.EXCLUDED_BY_TAG),
        (account(tags={"env": "dev"}), {"INCLUDE_TAGS": "env=*", "EXCLUDE_TAGS": "env=dev"}, Reason.EXCLUDED_BY_TAG),
        (account(tags={"env": "prod"}), {"INCLUDE_TAGS": "env=prod", "INCLUDE_OU_IDS": OU}, None),
        (account(tags={"env": "prod"}), {"INCLUDE_TAGS": "env=prod", "INCLUDE_OU_IDS": OTHER}, Reason.EXCLUDED),
        (account(tags={"env": None}), {"INCLUDE_TAGS": "env=prod", "INCLUDE_OU_IDS": OU}, Reason.EXCLUDED_BY_TAG),
        (account(state="CLOSED", tags={"env": None}), {"INCLUDE_TAGS": "env=prod"}, Reason.EXCLUDED_BY_TAG),
        (account(MANAGEMENT, tags={"env": None}), {"INCLUDE_TAGS": "env=prod"}, Reason.EXCLUDED_BY_TAG),
    ],
)
def test_state_and_settings_decide_eligibility(
    subject: Account, changes: dict[str, str], reason: Reason | None
) -> None:
    assert why_not_selected(subject, settings(**changes)) is reason
    assert why_ineligible(subject, ROW, settings(**changes)) is reason
    assert reason in {None, *INELIGIBLE_REASONS}


@pytest.mark.parametrize(
    ("subject", "changes", "is_complete"),
    [
        (account(ou_ids=None), {}, True),
        (account(ou_ids=None), {"EXCLUDE_OU_IDS": OU}, False),
        (account(), {"INCLUDE_TAGS": "env=prod"}, False),
        (account(tags={"env": None}), {"INCLUDE_TAGS": "env=prod"}, True),
        (account(tags={"env": "prod"}), {"INCLUDE_TAGS": "env=prod", "EXCLUDE_TAGS": "team=*"}, False),
        (account(tags={"env": "prod", "team": None}), {"EXCLUDE_TAGS": "team=*"}, True),
    ],
)
def test_listing_made_for_other_settings_may_lack_what_these_select_by(
    subject: Account, changes: dict[str, str], is_complete: bool
) -> None:
    assert subject.shows_selection(settings(**changes)) == is_complete


@pytest.mark.parametrize("state", [None, "ACTIVE", "CLOSED"])
@pytest.mark.parametrize("uninstalling", [False, True])
def test_requested_retirement_takes_precedence(state: str | None, uninstalling: bool) -> None:
    subject = account(state=state) if state else None
    row = replace(ROW, retirement_requested_at=NOW.isoformat())

    assert why_ineligible(subject, row, settings(), uninstalling=uninstalling) is Reason.RETIRED_BY_REQUEST


@pytest.mark.parametrize(
    ("subject", "uninstalling", "reason"),
    [
        (None, False, Reason.DEPARTED),
        (None, True, Reason.DEPARTED),
        (account(state="CLOSED"), True, Reason.CLOSED),
        (account(state="SUSPENDED"), True, Reason.SUSPENDED),
        (account(state="PENDING_CLOSURE"), True, Reason.UNINSTALLED),
        (account(state="PENDING_ACTIVATION"), True, Reason.UNINSTALLED),
        (account(), True, Reason.UNINSTALLED),
        (account(), False, None),
    ],
)
def test_uninstall_makes_every_reachable_account_ineligible(
    subject: Account | None, uninstalling: bool, reason: Reason | None
) -> None:
    assert why_ineligible(subject, None, settings(), uninstalling=uninstalling) is reason


# --- Access -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "ineligible", "access"),
    [
        (account(), None, Access.GRANTED),
        (account(), Reason.EXCLUDED, Access.EXCLUDED),
        (account(), Reason.EXCLUDED_BY_TAG, Access.EXCLUDED),
        (account(), Reason.RETIRED_BY_REQUEST, Access.EXCLUDED),
        (account(), Reason.UNINSTALLED, Access.EXCLUDED),
        # Closed accounts can't be reached, so they need no room among the excluded accounts.
        (account(state="CLOSED"), Reason.CLOSED, Access.NONE),
        (account(state="SUSPENDED"), Reason.SUSPENDED, Access.NONE),
        (account(), Reason.PENDING_ACTIVATION, Access.NONE),
        (None, Reason.DEPARTED, Access.NONE),
        (None, Reason.RETIRED_BY_REQUEST, Access.NONE),
    ],
)
def test_ineligible_member_is_excluded(subject: Account | None, ineligible: Reason | None, access: Access) -> None:
    assert access_for(subject, ineligible) is access


@pytest.mark.parametrize(
    ("outcome", "reason", "in_force", "blocked", "shown"),
    [
        (Outcome.ENROLLED, None, True, None, (Outcome.ENROLLED, None)),
        (Outcome.ENROLLED, None, True, Reason.QUOTA, (Outcome.ENROLLED, None)),
        (Outcome.ENROLLED, None, False, None, (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING)),
        (Outcome.ENROLLED, None, False, Reason.QUOTA, (Outcome.PENDING, Reason.QUOTA)),
        (Outcome.SKIPPED, Reason.EXCLUDED, False, Reason.QUOTA, (Outcome.SKIPPED, Reason.EXCLUDED)),
        (Outcome.SKIPPED, Reason.EXCLUDED, True, None, (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING)),
        (Outcome.RETIRED, Reason.DEPARTED, False, None, (Outcome.RETIRED, Reason.DEPARTED)),
        (Outcome.RETIRED, Reason.DEPARTED, True, Reason.QUOTA, (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING)),
        (Outcome.FAILED, Reason.SCP_DENIED, True, None, (Outcome.FAILED, Reason.SCP_DENIED)),
        (Outcome.FAILED, Reason.SCP_DENIED, False, Reason.QUOTA, (Outcome.FAILED, Reason.SCP_DENIED)),
    ],
)
def test_account_is_pending_until_its_outcome_is_published(
    outcome: Outcome,
    reason: Reason | None,
    in_force: bool,
    blocked: Reason | None,
    shown: tuple[Outcome, Reason | None],
) -> None:
    row = replace(ROW, outcome=outcome, reason=reason, in_force_since=NOW.isoformat() if in_force else None)

    assert shown_outcome(row, blocked) == shown


# --- Times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [None, "", "yesterday", "2026-01-01T00:00:00"])
def test_missing_or_malformed_time_is_in_the_past(written: str | None) -> None:
    assert parse_time(written) <= datetime(2026, 1, 1, tzinfo=UTC)


def test_times_are_formatted_in_utc_and_sort_as_text() -> None:
    east = datetime(2026, 11, 24, 14, tzinfo=timezone(timedelta(hours=2)))

    assert format_time(east) == "2026-11-24T12:00:00.000000+00:00"
    assert parse_time(format_time(east)) == east
    assert format_time(NOW) < format_time(NOW + timedelta(microseconds=1))


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("late", [False, True])
def test_retry_is_pending_for_six_hours(reason: Reason, late: bool) -> None:
    row = replace(ROW, outcome=Outcome.FAILED, reason=reason)
    now = NOW + timedelta(hours=6, seconds=late)

    assert is_retry_pending(row, now) is (reason in RETRYABLE_REASONS and not late)
