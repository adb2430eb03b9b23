import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Account
from chalicelib.errors import MessageError
from chalicelib.messages import Message, Trigger, read_message, write_message
from tests.unit.builders import MEMBER, account_ids

times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))]))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    account_id = draw(account_ids)
    trigger = draw(st.sampled_from(Trigger))
    first_seen_at, rolls_out = draw(st.none() | times), draw(st.booleans())
    if draw(st.booleans()):
        return Message(account_id, trigger, first_seen_at=first_seen_at, rolls_out=rolls_out)
    account = Account(
        id=account_id,
        name=draw(st.text()),
        state=draw(st.text()),
        joined_at=draw(st.none() | times),
        ou_ids=draw(st.none() | st.lists(st.text(max_size=10), max_size=3).map(tuple)),
        tags=draw(st.none() | st.dictionaries(st.text(max_size=10), st.none() | st.text(max_size=10), max_size=3)),
    )
    return Message(account_id, trigger, account, draw(times), first_seen_at, rolls_out)


LISTED = Message(
    account_id=MEMBER,
    trigger=Trigger.RESYNC,
    account=Account(
        id=MEMBER,
        name="payments",
        state="ACTIVE",
        joined_at=datetime(2026, 1, 1, tzinfo=UTC),
        ou_ids=("ou-ab12-22222222", "ou-ab12-11111111"),
    ),
    listed_at=datetime(2026, 3, 15, 8, 27, tzinfo=UTC),
)
BODY: dict[str, Any] = {
    "account_id": MEMBER,
    "trigger": "resync",
    "account": {
        "name": "payments",
        "state": "ACTIVE",
        "joined_at": "2026-01-01T00:00:00+00:00",
        "ou_ids": ["ou-ab12-22222222", "ou-ab12-11111111"],
    },
    "listed_at": "2026-03-15T08:27:00+00:00",
}


@pytest.mark.parametrize("time", ["", "yesterday", "2026-03-15T08:27:00", 5, None, ["2026-03-15T08:27:00+00:00"]])
def test_malformed_time_of_first_sight_is_ignored(time: Any) -> None:
    body = {"account_id": MEMBER, "trigger": "event", "first_seen_at": time}

    assert read_message(json.dumps(body)) == Message(MEMBER, Trigger.EVENT)


@given(messages())
def test_message_is_read_as_it_was_written(message: Message) -> None:
    assert read_message(write_message(message)) == message


def test_message_format_is_stable() -> None:
    assert json.loads(write_message(LISTED)) == BODY
    assert json.loads(write_message(Message(account_id=MEMBER, trigger=Trigger.EVENT))) == {
        "account_id": MEMBER,
        "trigger": "event",
    }


def test_message_contains_tags_only_if_the_settings_select_by_them() -> None:
    assert LISTED.account is not None
    tagged = LISTED._replace(account=replace(LISTED.account, tags={"env": "prod", "team": None}))

    assert json.loads(write_message(tagged))["account"]["tags"] == {"env": "prod", "team": None}
    assert "tags" not in json.loads(write_message(LISTED))["account"]


def test_unknown_keys_are_ignored() -> None:
    later = {**BODY, "priority": 1, "account": {**BODY["account"], "email": "x"}}

    assert read_message(json.dumps(later)) == LISTED


@pytest.mark.parametrize(
    "broken",
    [
        {"account": None},
        {"account": {}},
        *(
            {"account": {key: value for key, value in BODY["account"].items() if key != missing}}
            for missing in BODY["account"]
        ),
        {"account": {**BODY["account"], "joined_at": "yesterday"}},
        {"account": {**BODY["account"], "joined_at": "2026-01-01T00:00:00"}},
        {"account": {**BODY["account"], "ou_ids": 5}},
        {"account": {**BODY["account"], "tags": ["env"]}},
        {"account": {**BODY["account"], "tags": 5}},
        {"listed_at": None},
        {"listed_at": 1_800_000_000},
        {"listed_at": "2026-03-15T08:27:00"},
    ],
)
def test_malformed_listing_is_ignored(broken: dict[str, Any]) -> None:
    assert read_message(json.dumps(BODY | broken)) == Message(account_id=MEMBER, trigger=Trigger.RESYNC)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "twelve digits"),
        ("{}", "twelve digits"),
        ('{"account_id": 444455556666, "trigger": "event"}', "twelve digits"),
        ('{"account_id": "44445555666", "trigger": "event"}', "twelve digits"),
        ('{"account_id": "444455556666"}', "event, backfill, rerun, resync, retire"),
        ('{"account_id": "444455556666", "trigger": "magic"}', "event, backfill, rerun, resync, retire"),
        ('{"account_id": "444455556666", "trigger": {"a": 1}}', "event, backfill, rerun, resync, retire"),
    ],
)
def test_invalid_message_is_rejected_with_the_reason(body: str, why: str) -> None:
    with pytest.raises(MessageError, match=why):
        read_message(body)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2026-01-01T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(BODY["account"])), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(BODY)), anything))
def test_message_has_the_listing_of_its_own_account_or_none(content: dict[str, Any]) -> None:
    message = read_message(json.dumps(content | {"account_id": MEMBER, "trigger": "event"}))

    assert message.account_id == MEMBER
    assert (message.account is None) == (message.listed_at is None)
    assert message.account is None or message.account.id == MEMBER
