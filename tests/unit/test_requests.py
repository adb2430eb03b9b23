"""Requests of operators and schedules: parsed as written, or rejected with the reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Reason, RequestError
from chalicelib.requests import Request, Selection, read_freeze, read_request, write_request
from tests.unit.builders import MEMBER, SOURCE, account_ids

SCHEDULED = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": []}

some_ous = st.frozensets(st.from_regex(r"\Aou-[0-9a-z]{4,32}-[0-9a-z]{8,32}\Z"), max_size=3)
by_id = st.builds(
    Request,
    accounts=st.lists(account_ids, min_size=1, max_size=4, unique=True).map(tuple),
    dry_run=st.booleans(),
    force=st.booleans(),
    after=st.just("") | account_ids,
)
selected = st.builds(
    Request,
    accounts=st.sampled_from(Selection),
    ous=some_ous,
    reasons=st.frozensets(st.sampled_from(Reason), max_size=3),
    dry_run=st.booleans(),
    force=st.booleans(),
    after=st.just("") | account_ids,
)


@given(by_id | selected, st.sampled_from(Selection))
def test_request_is_read_as_it_was_written(request: Request, default: Selection) -> None:
    assert read_request(write_request(request), default) == request


@pytest.mark.parametrize("default", Selection)
def test_empty_and_scheduled_requests_have_the_default_selection(default: Selection) -> None:
    assert read_request({}, default) == Request(accounts=default)
    assert read_request(SCHEDULED, default) == Request(accounts=default, scheduled=True)


def test_repeated_account_is_selected_once() -> None:
    assert read_request({"accounts": [MEMBER, SOURCE, MEMBER]}, Selection.ALL).accounts == (MEMBER, SOURCE)


REJECTED: list[tuple[Any, str]] = [
    (None, "the request must be a JSON object"),
    ("all", "the request must be a JSON object"),
    ({"accounts": "all", "dryrun": True}, "the request has the key 'dryrun'"),
    ({"scheduled": True}, "the request has the key 'scheduled'"),
    ({"detail-type": "Scheduled Event", "source": "me"}, "the request has the key 'detail-type'"),
    ({"accounts": None}, "accounts is None"),
    ({"accounts": []}, r"accounts is \[\]: it must be a list of at least one"),
    ({"accounts": "everyone"}, "accounts is 'everyone'"),
    ({"accounts": MEMBER}, f"accounts is '{MEMBER}'"),
    ({"accounts": [MEMBER, "4444555566667"]}, "accounts contains '4444555566667'"),
    ({"accounts": [444455556666]}, "accounts contains 444455556666"),
    ({"accounts": [f"{MEMBER}\n"]}, "accounts contains"),
    ({"accounts": ["٤٤٤٤٥٥٥٥٦٦٦٦"]}, "accounts contains"),
    ({"ous": []}, r"ous is \[\]: it must be a list of at least one"),
    ({"ous": "ou-ab12-11111111"}, "ous is 'ou-ab12-11111111'"),
    ({"ous": ["ou-1"]}, "ous contains 'ou-1'"),
    ({"ous": [1]}, "ous contains 1"),
    ({"reasons": None}, "reasons is None"),
    ({"reasons": ["whim"]}, "reasons contains 'whim': each must be one of excluded, "),
    ({"reasons": [["not_ready"]]}, "reasons contains"),
    ({"accounts": [MEMBER], "ous": ["ou-ab12-11111111"]}, "lists accounts"),
    ({"accounts": [MEMBER], "reasons": ["not_ready"]}, "lists accounts"),
    ({"dry_run": "true"}, "dry_run is 'true': it must be true or false"),
    ({"dry_run": 1}, "dry_run is 1"),
    ({"dry_run": True, "adopt": 1}, "adopt is 1"),
    ({"adopt": True}, "adopt is only for a dry run: to adopt roles, set AdoptExistingRoles"),
    ({"force": "no"}, "force is 'no'"),
    ({"after": "12"}, "after is '12'"),
]


@pytest.mark.parametrize(("request_", "why"), REJECTED)
def test_invalid_request_is_rejected_with_the_reason(request_: Any, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        read_request(request_, Selection.ALL)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=13) | account_ids,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(["accounts", "ous", "reasons", "dry_run", "force", "adopt", "after"]), junk) | junk
)
def test_only_all_selects_every_account(event: Any) -> None:
    try:
        request = read_request(event, Selection.NEW)
    except RequestError:
        return
    assert request == read_request(write_request(request), Selection.FAILED)
    assert request.accounts is not Selection.ALL or event["accounts"] == "all"


@pytest.mark.parametrize("frozen", [True, False])
def test_freeze_request_is_read(frozen: bool) -> None:
    assert read_freeze({"frozen": frozen}) is frozen


@pytest.mark.parametrize(
    "event", [None, [], {}, SCHEDULED, {"frozen": "true"}, {"frozen": 1}, {"frozen": None}, {"frozen": True, "x": 1}]
)
def test_invalid_freeze_request_is_rejected(event: Any) -> None:
    with pytest.raises(RequestError):
        read_freeze(event)
