import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import is_account_id
from chalicelib.events import PATTERN, account_ids, changes_control_policies, is_membership_event

PAYLOADS = {path.name: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "events").glob("*.json")}
CALLER = "111122223333"
INVITED = "777788889999"
ACCOUNT = "444455556666"
ANY_DEPTH = ["AccountJoinedOrganization", "AccountDepartedOrganization"]

# The events that the rule matches, and their accounts.
MATCHED: dict[str, list[str]] = {
    "accept_handshake.json": [INVITED],
    "attach_policy_to_unit.json": [],
    "account_departed_service_event.json": [ACCOUNT],
    "account_joined_service_event.json": [ACCOUNT],
    "close_account.json": [ACCOUNT],
    "close_account_result.json": [ACCOUNT],
    "create_account_result.json": [ACCOUNT],
    "create_account_result_failed.json": [],
    "create_managed_account.json": [ACCOUNT],
    "detach_policy_from_account.json": [ACCOUNT],
    "disable_policy_type.json": [],
    "enable_tag_policies.json": [],
    "move_account.json": [ACCOUNT],
    "remove_account.json": [ACCOUNT],
    "tag_account.json": [],
    "update_backup_policy.json": [],
    "update_managed_account_failed.json": [],
    "update_service_control_policy.json": [],
}
NOT_MATCHED = {
    "create_account_in_progress.json",
    "detach_policy_denied.json",
    "invite_account_sent.json",
    "remove_account_denied.json",
}
CONTROL_POLICIES = {
    "attach_policy_to_unit.json",
    "detach_policy_from_account.json",
    "disable_policy_type.json",
    "move_account.json",
    "update_service_control_policy.json",
}


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether EventBridge would match an event, for the parts of its pattern language that are used."""
    return all(
        matches(expected, event.get(key, {}))
        if isinstance(expected, dict)
        else any(key not in event if each == {"exists": False} else event.get(key) == each for each in expected)
        for key, expected in pattern.items()
    )


def callers_of(event: dict[str, Any]) -> set[Any]:
    detail = event["detail"]
    if detail["eventName"] == "AcceptHandshake":
        return {event["account"]}
    return {event["account"], detail["recipientAccountId"], detail["userIdentity"]["accountId"]}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_accounts_are_found_in_the_event(name: str) -> None:
    assert account_ids(PAYLOADS[name]) == MATCHED.get(name, [])


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_rule_matches_only_events_that_may_change_an_account(name: str) -> None:
    assert matches(PATTERN, PAYLOADS[name]) == (name in MATCHED)
    assert (name in NOT_MATCHED) != (name in MATCHED)


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_change_of_control_policies_is_recognized(name: str) -> None:
    """Policies of other types are ignored where the event contains the type; an attachment's doesn't."""
    assert changes_control_policies(PAYLOADS[name]) == (name in CONTROL_POLICIES)


@pytest.mark.parametrize("name", ["update_service_control_policy.json", "disable_policy_type.json"])
@pytest.mark.parametrize("kind", ["RESOURCE_CONTROL_POLICY", "AISERVICES_OPT_OUT_POLICY", "DECLARATIVE_POLICY_EC2", 5])
def test_only_control_policies_count(name: str, kind: Any) -> None:
    event = json.loads(json.dumps(PAYLOADS[name]).replace('"SERVICE_CONTROL_POLICY"', json.dumps(kind)))

    assert changes_control_policies(event) == (kind == "RESOURCE_CONTROL_POLICY")


@pytest.mark.parametrize("name", [name for name, accounts in MATCHED.items() if accounts])
@pytest.mark.parametrize("other", ["ou-ab12-11111111", "r-ab12", "o-abcdefghij", "p-bvdv3rx3"])
def test_id_of_anything_but_an_account_is_ignored(name: str, other: str) -> None:
    (account,) = MATCHED[name]
    event = json.loads(json.dumps(PAYLOADS[name]).replace(account, other))

    assert account_ids(event) == []


@pytest.mark.parametrize(
    ("name", "request_parameters", "accounts"),
    [
        ("TagResource", {"tags": [{"key": "team", "value": "payments"}]}, [ACCOUNT]),
        ("TagResource", {"tags": [{"key": "cost", "value": "1"}, {"key": "team", "value": ""}]}, [ACCOUNT]),
        ("TagResource", {"tags": [{"key": "Team", "value": "payments"}]}, []),
        ("TagResource", {"tags": [{"key": "cost", "value": "team"}]}, []),
        ("UntagResource", {"tagKeys": ["cost", "team"]}, [ACCOUNT]),
        ("UntagResource", {"tagKeys": ["cost"]}, []),
        ("TagResource", {"resourceId": CALLER}, [CALLER]),  # the management account
        ("TagResource", {"resourceId": "ou-ab12-11111111"}, []),
        ("TagResource", {"resourceId": "r-ab12"}, []),
        ("UntagResource", {"resourceId": "p-bvdv3rx3"}, []),
        ("TagResource", {"tags": "HIDDEN_DUE_TO_SECURITY_REASONS"}, [ACCOUNT]),
        ("UntagResource", {"tagKeys": [5, None]}, [ACCOUNT]),
        ("UntagResource", {}, [ACCOUNT]),
    ],
)
def test_tag_of_a_selecting_key_makes_the_account_due(
    name: str, request_parameters: dict[str, Any], accounts: list[str]
) -> None:
    event = json.loads(json.dumps(PAYLOADS["tag_account.json"]))
    event["detail"] |= {"eventName": name, "requestParameters": {"resourceId": ACCOUNT, **request_parameters}}

    assert account_ids(event, {"team", "env"}) == accounts
    assert account_ids(event) == []


def test_tags_of_an_account_are_no_change_of_its_membership() -> None:
    event = PAYLOADS["tag_account.json"]

    assert not changes_control_policies(event)
    assert not is_membership_event(event)


@pytest.mark.parametrize("target", [CALLER, "ou-ab12-11111111", "r-ab12", "44445555666", None, 444455556666])
def test_only_an_accounts_id_is_a_target(target: Any) -> None:
    """SCPs don't apply to the management account."""
    event = json.loads(json.dumps(PAYLOADS["detach_policy_from_account.json"]))
    event["detail"]["requestParameters"]["targetId"] = target

    assert account_ids(event) == []
    assert changes_control_policies(event)


def test_rule_matches_any_detail_type_of_two_sources() -> None:
    event = PAYLOADS["account_joined_service_event.json"]

    assert matches(PATTERN, event | {"detail-type": "AWS API Call via CloudTrail"})
    assert not matches(PATTERN, event | {"source": "aws.iam"})
    assert not matches(PATTERN, {"source": "aws.organizations"})


def test_pattern_is_within_eventbridges_limit() -> None:
    assert len(json.dumps(PATTERN)) < 4096  # "Amazon EventBridge quotas"


@pytest.mark.parametrize("name", [name for name, accounts in MATCHED.items() if accounts])
@pytest.mark.parametrize(
    "relayed",
    [
        lambda event: event | {"detail": json.dumps(event["detail"])},
        lambda event: event | {"detail": {key: _stringified(value) for key, value in event["detail"].items()}},
    ],
    ids=["the detail", "its parts"],
)
def test_objects_encoded_as_strings_by_a_relay_are_read(
    name: str, relayed: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    assert account_ids(relayed(PAYLOADS[name])) == MATCHED[name]


def _stringified(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", [name for name, accounts in MATCHED.items() if accounts])
def test_failed_call_has_no_account(name: str) -> None:
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
def test_change_that_has_not_succeeded_has_no_account(name: str, path: list[str], state: str | None) -> None:
    event = json.loads(json.dumps(PAYLOADS[name]))
    node = event["detail"]
    for key in path:
        node = node[key]

    node["state"] = state

    assert account_ids(event) == []


@pytest.mark.parametrize("name", ANY_DEPTH)
@pytest.mark.parametrize("key", ["accountId", "AccountId", "accountid"])
@given(path=st.lists(st.sampled_from(["account", "serviceEventDetails", "requestParameters", 0]), max_size=8))
def test_joined_or_departed_account_is_found_at_any_depth(name: str, key: str, path: list[str | int]) -> None:
    node: Any = {key: ACCOUNT}
    for step in path:
        node = [CALLER, node] if step == 0 else {"eventId": "x", step: node}
    detail = node if isinstance(node, dict) else {"parts": node}

    event = {"account": CALLER, "detail": detail | {"eventName": name, "userIdentity": {"accountId": INVITED}}}

    assert account_ids(event) == [ACCOUNT]


@pytest.mark.parametrize("name", ANY_DEPTH)
@pytest.mark.parametrize("nested", [{}, {"sessionContext": {"sessionIssuer": {"accountId": ACCOUNT}}}])
def test_caller_is_never_the_account(name: str, nested: dict[str, Any]) -> None:
    caller = {"accountId": CALLER, **nested}

    for where in ({"userIdentity": caller}, {"additionalEventData": [{"userIdentity": caller}]}):
        detail = {"eventName": name, "recipientAccountId": INVITED, "details": {"accountId": INVITED}, **where}
        assert account_ids({"account": CALLER, "detail": detail}) == []


@pytest.mark.parametrize("name", ANY_DEPTH)
@pytest.mark.parametrize(
    "detail",
    [
        {"serviceEventDetails": {"memberAccountId": ACCOUNT}},
        {"serviceEventDetails": {"account": ACCOUNT}},
        {"serviceEventDetails": {"account": {"id": ACCOUNT}}},
        {"requestParameters": {"account": {"id": int(ACCOUNT)}}},
        {"resources": [f"arn:aws:organizations::{CALLER}:account/o-abcdefghij/{ACCOUNT}"]},
        {"userIdentity": {"accountId": ACCOUNT}},
        {"userIdentity": {"accountId": ACCOUNT}, "requestParameters": {"accountId": ACCOUNT}},
    ],
    ids=["key ends in it", "account", "account.id", "number", "ARN", "member that leaves", "member and parameter"],
)
def test_membership_event_of_any_shape_names_the_account(name: str, detail: dict[str, Any]) -> None:
    event = {"account": CALLER, "detail": {"eventName": name, "recipientAccountId": CALLER, **detail}}

    assert account_ids(event) == [ACCOUNT]
    assert is_membership_event(event)


def test_account_is_returned_once() -> None:
    detail = {"eventName": ANY_DEPTH[0], "accountId": ACCOUNT, "account": {"accountId": ACCOUNT}}

    assert account_ids({"detail": detail}) == [ACCOUNT]


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(
        [CALLER, ACCOUNT, INVITED, "SUCCEEDED", "ACCEPTED", "ACCOUNT", '{"accountId":"444455556666"}', "{"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["accountId", "id", "state", "type", "account", "userIdentity"]), inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(junk | st.fixed_dictionaries({"detail": junk}))
def test_malformed_event_has_no_account(event: object) -> None:
    assert account_ids(event) == []
    assert not changes_control_policies(event)


@given(st.sampled_from(sorted(MATCHED)), st.data())
def test_event_of_any_shape_has_account_ids_other_than_its_callers(name: str, data: st.DataObject) -> None:
    event = json.loads(json.dumps(PAYLOADS[name]))
    callers = callers_of(event)
    node = event["detail"]
    kept = {"eventName", "recipientAccountId", "userIdentity"}
    while True:
        key = data.draw(st.sampled_from(sorted(set(node) - kept)))
        if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(junk | st.just({"accountId": CALLER, "state": "SUCCEEDED"}) | st.just(CALLER))
            break
        node = node[key]

    found = account_ids(event)

    assert all(is_account_id(each) for each in found)
    assert callers.isdisjoint(found)


@pytest.mark.parametrize("name", sorted({PAYLOADS[each]["detail"]["eventName"] for each in MATCHED}))
@pytest.mark.parametrize(
    "content",
    [
        "{" * 1_000_000,
        '{"a":' * 200_000,
        '{"a":' + "9" * 1_000_000 + "}",
        [{"accountId": CALLER}] * 20_000,
        {f"key{number}": {"a": number} for number in range(30_000)},
    ],
    ids=["braces", "nesting", "number", "list", "keys"],
)
def test_megabyte_of_invalid_content_has_no_account(name: str, content: Any) -> None:
    detail = {"eventName": name, "recipientAccountId": CALLER, "userIdentity": {"accountId": CALLER}}
    parts = ["serviceEventDetails", "requestParameters", "responseElements", "other"]

    for event_detail in (content, *(detail | {part: content} for part in parts)):
        assert account_ids({"account": CALLER, "detail": event_detail}) == []


@pytest.mark.parametrize("name", ANY_DEPTH)
def test_search_depth_is_limited(name: str) -> None:
    deep: Any = {"accountId": ACCOUNT}
    for _ in range(100_000):
        deep = {"a": [deep]}

    assert account_ids({"detail": {"eventName": name, "deep": deep}}) == []
    assert account_ids({"detail": {"eventName": name, "accountId": ACCOUNT, "deep": deep}}) == [ACCOUNT]
