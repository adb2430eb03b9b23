import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import is_account_id
from chalicelib.events import PATTERN, account_ids, is_membership_event

PAYLOADS = {path.name: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "events").glob("*.json")}
CALLER = "111122223333"
INVITED = "777788889999"
ABOUT = "444455556666"
ELSEWHERE = ["AccountJoinedOrganization", "AccountDepartedOrganization"]

# What the rule lets through, and the accounts that it is about.
HEARD: dict[str, list[str]] = {
    "accept_handshake.json": [INVITED],
    "account_departed_service_event.json": [ABOUT],
    "account_joined_service_event.json": [ABOUT],
    "close_account.json": [ABOUT],
    "close_account_result.json": [ABOUT],
    "create_account_result.json": [ABOUT],
    "create_account_result_failed.json": [],
    "create_managed_account.json": [ABOUT],
    "move_account.json": [ABOUT],
    "remove_account.json": [ABOUT],
    "update_managed_account_failed.json": [],
}
UNHEARD = {"create_account_in_progress.json", "invite_account_sent.json", "remove_account_denied.json"}


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """What EventBridge does, as far as the pattern asks for it: names to descend into, and lists of what may stand there."""
    return all(
        matches(wanted, event.get(key, {}))
        if isinstance(wanted, dict)
        else any(key not in event if each == {"exists": False} else event.get(key) == each for each in wanted)
        for key, wanted in pattern.items()
    )


def of_its_own_callers(event: dict[str, Any]) -> set[Any]:
    detail = event["detail"]
    if detail["eventName"] == "AcceptHandshake":
        return {event["account"]}
    return {event["account"], detail["recipientAccountId"], detail["userIdentity"]["accountId"]}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_an_event_names_the_accounts_that_it_is_about(name: str) -> None:
    assert account_ids(PAYLOADS[name]) == HEARD.get(name, [])


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_the_rule_lets_through_what_may_tell_of_an_account_and_nothing_else(name: str) -> None:
    assert matches(PATTERN, PAYLOADS[name]) == (name in HEARD)
    assert (name in UNHEARD) != (name in HEARD)


def test_the_rule_hears_organizations_and_control_tower_alone_whatever_the_detail_type() -> None:
    event = PAYLOADS["account_joined_service_event.json"]

    assert matches(PATTERN, event | {"detail-type": "AWS API Call via CloudTrail"})
    assert not matches(PATTERN, event | {"source": "aws.iam"})
    assert not matches(PATTERN, {"source": "aws.organizations"})


def test_the_rules_pattern_fits_eventbridge() -> None:
    assert len(json.dumps(PATTERN)) < 4096


@pytest.mark.parametrize("name", [name for name, about in HEARD.items() if about])
@pytest.mark.parametrize(
    "relayed",
    [
        lambda event: event | {"detail": json.dumps(event["detail"])},
        lambda event: event | {"detail": {key: _stringified(value) for key, value in event["detail"].items()}},
    ],
    ids=["the detail", "its parts"],
)
def test_objects_that_a_relay_made_strings_of_are_read(
    name: str, relayed: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    assert account_ids(relayed(PAYLOADS[name])) == HEARD[name]


def _stringified(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", [name for name, about in HEARD.items() if about])
def test_a_call_that_failed_is_about_nothing(name: str) -> None:
    event = PAYLOADS[name]

    assert account_ids(event | {"detail": event["detail"] | {"errorCode": "AccessDenied"}}) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("create_account_result.json", ["serviceEventDetails", "createAccountStatus"]),
        ("close_account_result.json", ["serviceEventDetails", "closeAccountStatus"]),
        ("create_managed_account.json", ["serviceEventDetails", "createManagedAccountStatus"]),
        ("accept_handshake.json", ["responseElements", "handshake"]),
    ],
)
@pytest.mark.parametrize("state", ["IN_PROGRESS", "FAILED", "DECLINED", None])
def test_what_has_not_come_to_pass_is_about_nothing(name: str, path: list[str], state: str | None) -> None:
    event = json.loads(json.dumps(PAYLOADS[name]))
    node = event["detail"]
    for key in path:
        node = node[key]

    node["state"] = state

    assert account_ids(event) == []


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("key", ["accountId", "AccountId", "accountid"])
@given(path=st.lists(st.sampled_from(["account", "serviceEventDetails", "requestParameters", 0]), max_size=8))
def test_a_join_or_departure_is_understood_wherever_it_carries_the_id(
    name: str, key: str, path: list[str | int]
) -> None:
    carried: Any = {key: ABOUT}
    for step in path:
        carried = [CALLER, carried] if step == 0 else {"eventId": "x", step: carried}
    detail = carried if isinstance(carried, dict) else {"parts": carried}

    event = {"account": CALLER, "detail": detail | {"eventName": name, "userIdentity": {"accountId": INVITED}}}

    assert account_ids(event) == [ABOUT]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("nested", [{}, {"sessionContext": {"sessionIssuer": {"accountId": ABOUT}}}])
def test_who_called_is_nowhere_taken_for_the_account(name: str, nested: dict[str, Any]) -> None:
    caller = {"accountId": CALLER, **nested}

    for where in ({"userIdentity": caller}, {"additionalEventData": [{"userIdentity": caller}]}):
        detail = {"eventName": name, "recipientAccountId": INVITED, "details": {"accountId": INVITED}, **where}
        assert account_ids({"account": CALLER, "detail": detail}) == []


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(
    "detail",
    [
        {"serviceEventDetails": {"memberAccountId": ABOUT}},
        {"serviceEventDetails": {"account": ABOUT}},
        {"serviceEventDetails": {"account": {"id": ABOUT}}},
        {"requestParameters": {"account": {"id": int(ABOUT)}}},
        {"resources": [f"arn:aws:organizations::{CALLER}:account/o-abcdefghij/{ABOUT}"]},
        {"userIdentity": {"accountId": ABOUT}},
        {"userIdentity": {"accountId": ABOUT}, "requestParameters": {"accountId": ABOUT}},
    ],
    ids=["key ends in it", "account", "account.id", "number", "ARN", "member that leaves", "member and parameter"],
)
def test_membership_event_of_any_shape_names_the_account(name: str, detail: dict[str, Any]) -> None:
    event = {"account": CALLER, "detail": {"eventName": name, "recipientAccountId": CALLER, **detail}}

    assert account_ids(event) == [ABOUT]
    assert is_membership_event(event)


def test_an_account_that_an_event_names_twice_is_named_once() -> None:
    detail = {"eventName": ELSEWHERE[0], "accountId": ABOUT, "account": {"accountId": ABOUT}}

    assert account_ids({"detail": detail}) == [ABOUT]


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(
        [CALLER, ABOUT, INVITED, "SUCCEEDED", "ACCEPTED", "ACCOUNT", '{"accountId":"444455556666"}', "{"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["accountId", "id", "state", "type", "account", "userIdentity"]), inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(junk | st.fixed_dictionaries({"detail": junk}))
def test_what_is_no_event_is_about_nothing(event: object) -> None:
    assert account_ids(event) == []


@given(st.sampled_from(sorted(HEARD)), st.data())
def test_an_event_of_any_shape_names_account_ids_and_never_who_called(name: str, data: st.DataObject) -> None:
    event = json.loads(json.dumps(PAYLOADS[name]))
    callers = of_its_own_callers(event)
    node = event["detail"]
    kept = {"eventName", "recipientAccountId", "userIdentity"}
    while True:
        key = data.draw(st.sampled_from(sorted(set(node) - kept)))
        if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(junk | st.just({"accountId": CALLER, "state": "SUCCEEDED"}) | st.just(CALLER))
            break
        node = node[key]

    named = account_ids(event)

    assert all(is_account_id(each) for each in named)
    assert callers.isdisjoint(named)


@pytest.mark.parametrize("name", sorted({PAYLOADS[each]["detail"]["eventName"] for each in HEARD}))
@pytest.mark.parametrize(
    "filling",
    [
        "x" * 1_000_000,
        "{" * 1_000_000,
        '{"a":' * 200_000,
        '{"a":' + "9" * 1_000_000 + "}",
        "[" * 1_000_000,
        [CALLER] * 100_000,
        [{"accountId": CALLER}] * 20_000,
        {f"key{number}": {"a": number} for number in range(30_000)},
    ],
    ids=["text", "braces", "deep text", "a number", "brackets", "a list", "objects", "keys"],
)
def test_a_megabyte_of_junk_is_about_nothing(name: str, filling: Any) -> None:
    detail = {"eventName": name, "recipientAccountId": CALLER, "userIdentity": {"accountId": CALLER}}
    parts = ["serviceEventDetails", "requestParameters", "responseElements", "other"]

    for event_detail in (filling, *(detail | {part: filling} for part in parts)):
        assert account_ids({"account": CALLER, "detail": event_detail}) == []


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_deepest_nesting_is_no_trouble(name: str) -> None:
    deep: Any = {"accountId": ABOUT}
    for _ in range(100_000):
        deep = {"a": [deep]}

    assert account_ids({"detail": {"eventName": name, "deep": deep}}) == []
    assert account_ids({"detail": {"eventName": name, "accountId": ABOUT, "deep": deep}}) == [ABOUT]
