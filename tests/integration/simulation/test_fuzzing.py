"""Whatever is sent, asked for or found in the tables: no exception but our own, and no action in an account that nobody confirmed."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.accounts import Access, Change, Outcome
from chalicelib.errors import Reason, RequestError, SettingsError
from chalicelib.events import PATTERN
from chalicelib.messages import Trigger
from chalicelib.requests import Selection
from chalicelib.settings import Settings
from tests.integration.simulation.boundary import simulated
from tests.integration.simulation.changes import IDS, STRANGER
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.stages import environ, member_role_arn
from tests.integration.simulation.strangers import Strangers, nobody_else_was_entered

FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
_IDS = st.sampled_from([IDS[0], IDS[1], STRANGER, MANAGEMENT, "123", "", "1234567890123"])
_JSON = st.recursive(
    _SCALARS | _IDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("accountId"), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def strangers() -> Iterator[Strangers]:
    with simulated() as boundary:
        yield Strangers(boundary)


def _mixed(**parts: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Take some of the parts as they may be, and some as anything."""
    return st.fixed_dictionaries({}, optional={name: part | _JSON for name, part in parts.items()})


_EVENTS = _mixed(
    source=st.sampled_from(PATTERN["source"]),
    account=_IDS,
    detail=_mixed(
        eventName=st.sampled_from(PATTERN["detail"]["eventName"]),
        serviceEventDetails=_mixed(
            createAccountStatus=st.fixed_dictionaries({"state": st.just("SUCCEEDED"), "accountId": _IDS}),
            accountId=_IDS,
        ),
        requestParameters=st.fixed_dictionaries({"accountId": _IDS}),
        responseElements=_JSON,
        userIdentity=_JSON,
        errorCode=_SCALARS,
    ),
)


@FEW
@given(told=_EVENTS | _JSON)
def test_no_event_has_anything_done_in_an_account_that_nobody_confirms(strangers: Strangers, told: Any) -> None:
    stage = strangers.enrolled()

    stage.invoke("on_account_event", told)
    stage.work()

    nobody_else_was_entered(stage)


_BODIES = _mixed(
    account_id=_IDS,
    trigger=st.sampled_from(list(Trigger)),
    account=_mixed(
        name=st.text(max_size=5), state=st.sampled_from(["ACTIVE", "CLOSED"]), joined_at=st.none(), ou_ids=st.just([])
    ),
    listed_at=st.just("2020-01-01T00:00:00+00:00") | st.just("2020-01-01T00:00:00"),
)


@FEW
@given(body=_BODIES.map(json.dumps) | _JSON.map(json.dumps) | st.text(max_size=20))
def test_no_message_has_anything_done_in_an_account_that_nobody_confirms(strangers: Strangers, body: str) -> None:
    stage = strangers.enrolled()

    stage.cloud.queues.accounts.put(body)
    stage.work()

    nobody_else_was_entered(stage)


_REQUESTS = _mixed(
    accounts=st.sampled_from(list(Selection)) | st.lists(_IDS, max_size=2),
    ous=st.lists(st.sampled_from(["ou-ab12-11111111", "ou"]), max_size=2),
    reasons=st.lists(st.sampled_from([*Reason, "bad"]), max_size=2),
    dry_run=st.booleans(),
    force=st.booleans(),
    after=_IDS,
    frozen=st.booleans(),
)


@FEW
@given(function=st.sampled_from(["backfill", "rerun", "resync", "retire", "freeze"]), request=_REQUESTS | _JSON)
def test_a_request_is_answered_or_refused_as_one(strangers: Strangers, function: str, request: Any) -> None:
    stage = strangers.enrolled()

    with suppress(RequestError):
        json.dumps(stage.invoke(function, request))
    stage.work()

    nobody_else_was_entered(stage)


_ROWS = st.fixed_dictionaries(
    {},
    optional={
        "outcome": st.sampled_from([*Outcome, "of a later release"]),
        "change": st.sampled_from([*Change, "of a later release"]),
        "reason": st.sampled_from([*Reason, "of a later release"]),
        "updated_at": st.just("2026-01-01T00:00:00+00:00"),
        "access": st.sampled_from([*Access, "of a later release"]),
        "in_force_since": st.just("2026-01-01T00:00:00+00:00"),
        "retirement_requested_at": st.just("2026-01-01T00:00:00+00:00"),
        "role_arn": st.just(member_role_arn(IDS[0])),
        "enrolled_at": st.just("2026-01-01T00:00:00+00:00"),
        "unheard_of": st.text(max_size=5),
    },
)


@FEW
@given(row=_ROWS, attempts=st.none() | st.integers(0, 1000))
def test_a_row_of_any_release_is_read_and_written_anew(
    strangers: Strangers, row: dict[str, str], attempts: int | None
) -> None:
    stage = strangers.enrolled()
    item: dict[str, Any] = {"account_id": {"S": IDS[0]}} | {name: {"S": value} for name, value in row.items()}
    stage.cloud.tables.items["ledger"] = {
        IDS[0]: item | ({"attempts": {"N": str(attempts)}} if attempts is not None else {})
    }

    stage.invoke("rerun", {})
    stage.invoke("resync", {})
    stage.work()

    retired = "retirement_requested_at" in row
    assert stage.cloud.rows()[IDS[0]]["outcome"] in ({"retired", "skipped"} if retired else {"enrolled"})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    given_settings=st.dictionaries(
        st.sampled_from(
            [*environ(), "EXTERNAL_ID", "MEMBER_ROLE_NAME", "MEMBER_ROLE_TAGS", "EXCLUDE_OU_IDS", "SOURCE_POLICY_SCOPE"]
        ),
        st.text(max_size=30)
        | st.sampled_from(["true", "accounts", "arn:aws:iam::111122223333:root", "a=b,c=d", "1" * 12]),
        max_size=3,
    )
)
def test_settings_are_read_or_refused_by_name(given_settings: dict[str, str]) -> None:
    refused = ""
    try:
        Settings.from_env(environ() | given_settings)
    except SettingsError as error:
        refused = str(error)

    assert not refused or refused.split()[0] in {*environ(), *given_settings}
