"""What a deployment shows: its changes as a diff, its progress, a failure with its reason, and the next steps."""

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from rich.text import Text

from chalicelib.member_role import ANY_ACCOUNT, desired_role, fingerprint
from chalicelib.settings import Settings
from rolecall.deploy.change_set import ResourceChange
from rolecall.deploy.changes_page import (
    event_display,
    failure_lines,
    new_stack_changes,
    parameter_lines,
    resource_lines,
)
from rolecall.deploy.location import Location
from rolecall.deploy.next_steps import next_steps
from rolecall.deploy.role_changes import count_roles, role_lines
from rolecall.deploy.stack_events import Ended, Event
from rolecall.deploy.stack_operations import FailedError
from tests.unit.builders import EXAMPLES, EXTRA, settings

_DECLARED: dict[str, Any] = {
    "Threads": {"Default": 10},
    "ExternalId": {"Default": ""},
    "MemberRoleTags": {"Default": ""},
    "MemberRolePolicies": {"Default": ""},
    "SourcePrincipalArns": {},
}


def _plain(lines: Any) -> list[str]:
    return [line.plain if isinstance(line, Text) else line for line in lines]


def test_only_parameters_that_change_are_shown_and_no_external_id() -> None:
    given = {"Threads": "5", "ExternalId": "secret-id", "MemberRoleTags": "", "SourcePrincipalArns": "arn:x"}
    kept = {"Threads": "10", "ExternalId": "", "MemberRoleTags": "team=a", "SourcePrincipalArns": "arn:x"}
    assert _plain(parameter_lines(given, kept, _DECLARED)) == [
        "  ~ Threads: 10 → 5",
        "  ~ ExternalId: changed (not shown)",
        "  ~ MemberRoleTags: team=a → (empty)",
    ]


def test_documents_are_shown_as_a_diff_of_each() -> None:
    changed = EXTRA.replace("GetMacieSession", "Get*")
    kept = {"MemberRolePolicies": f'{{"A":{EXTRA},"B":{EXTRA},"C":{EXTRA}}}'}
    given = {"MemberRolePolicies": f'{{"A":{EXTRA},"B":{changed},"D":{EXTRA}}}'}
    lines = _plain(parameter_lines(given, kept, _DECLARED))
    assert lines[0] == "  ~ MemberRolePolicies: B"
    assert lines[5:7] == ['        -     "Action": "macie2:GetMacieSession",', '        +     "Action": "macie2:Get*",']
    assert [line for line in lines if "MemberRolePolicies" in line][1:] == [
        "  - MemberRolePolicies: C",
        "  + MemberRolePolicies: D",
    ]
    assert _plain(parameter_lines({"MemberRolePolicies": ""}, {"MemberRolePolicies": "edited"}, _DECLARED)) == []


def test_new_stage_shows_what_differs_from_the_defaults() -> None:
    given = {"Threads": "10", "SourcePrincipalArns": "arn:\x1b[31mx"}
    assert _plain(parameter_lines(given, {}, _DECLARED)) == [r"  + SourcePrincipalArns: arn:\x1b[31mx"]


def test_resources_are_shown_by_what_happens_to_them() -> None:
    changes = [
        *(ResourceChange("Add", f"Queue{number}", "AWS::SQS::Queue") for number in range(6)),
        ResourceChange("Modify", "Enroll", "AWS::Lambda::Function", ("Environment", "Timeout")),
        ResourceChange("Modify", "Topic", "AWS::SNS::Topic", ("TopicName",), replaced=True),
        ResourceChange("Import", "Table", "AWS::DynamoDB::Table"),
        ResourceChange("Remove", "Old", "AWS::SQS::Queue"),
    ]
    assert _plain(resource_lines(changes)) == [
        "  + 6 AWS::SQS::Queue: Queue0, Queue1, Queue2, Queue3 and 2 more",
        "  ~ Enroll (AWS::Lambda::Function): Environment, Timeout",
        "  ± Topic (AWS::SNS::Topic): TopicName",
        "  < Table (AWS::DynamoDB::Table)",
        "  - Old (AWS::SQS::Queue)",
        "Resources: 6 created, 1 updated, 1 replaced, 1 imported, 1 deleted",
    ]
    assert _plain(resource_lines([])) == ["Resources: nothing changes"]
    (*_, count) = _plain(resource_lines(changes, are_expanded=False))
    assert count.startswith(
        "Resources: 6 created, 1 updated, 1 replaced, 1 imported, 1 deleted, and what SAM's transform adds"
    )


def test_new_stack_has_the_resources_whose_condition_is_true() -> None:
    template = {
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Table": {"Type": "AWS::DynamoDB::Table"},
            "Mail": {"Type": "AWS::SNS::Subscription", "Condition": "Mailed"},
        }
    }
    assert new_stack_changes(template, {"Mailed": False}, ["Table"]) == [
        ResourceChange("Add", "Queue", "AWS::SQS::Queue"),
        ResourceChange("Import", "Table", "AWS::DynamoDB::Table"),
    ]
    assert len(new_stack_changes(template, {"Mailed": True}, [])) == 3


def _event(logical_id: str, status: str, reason: str = "", *, is_stack: bool = False) -> Event:
    return Event(
        id=f"{logical_id}-{status}",
        logical_id=logical_id,
        kind="AWS::SQS::Queue",
        status=status,
        reason=reason,
        is_stack=is_stack,
        token="token",
    )


def test_progress_shows_what_ended_and_each_failure() -> None:
    printed: list[Text] = []
    times = iter([0.0, 4.2, 4.2])
    display = event_display(printed.append, lambda: next(times))

    display(
        [
            _event("A", "CREATE_IN_PROGRESS"),
            _event("A", "CREATE_COMPLETE"),
            _event("B", "CREATE_COMPLETE"),
            _event("C", "CREATE_FAILED", "no\nroom"),
        ]
    )

    assert _plain(printed) == [r"     4 s  create failed: C: no\nroom", "     4 s  create complete: A, B"]


def test_reasons_are_those_of_resources_that_failed_by_themselves() -> None:
    events = [
        _event("stack", "CREATE_IN_PROGRESS", "User Initiated", is_stack=True),
        _event("A", "CREATE_FAILED", "Access denied"),
        _event("B", "CREATE_FAILED", "Resource creation cancelled"),
        _event("stack", "ROLLBACK_COMPLETE", "The following resource(s) failed to create: [A]", is_stack=True),
    ]
    ended = Ended.from_events(events)
    assert ended == Ended(status="ROLLBACK_COMPLETE", failures=("A: Access denied",))
    assert _plain(failure_lines(FailedError("rolecall-dev", ended), "try again")) == [
        "Failed: stack rolecall-dev is ROLLBACK_COMPLETE.",
        "  A: Access denied",
        "What to do: try again.",
    ]


def test_operation_without_a_failed_resource_has_the_stacks_reason() -> None:
    events = [
        _event("stack", "UPDATE_IN_PROGRESS", "User Initiated", is_stack=True),
        _event("stack", "UPDATE_ROLLBACK_IN_PROGRESS", "Transform failed", is_stack=True),
        _event("stack", "UPDATE_ROLLBACK_COMPLETE", is_stack=True),
    ]
    assert Ended.from_events(events).failures == ("stack: Transform failed",)


_DEFAULTS = {"AlarmEmail": "", "AccessRoleStackSet": "false"}


def _queues(*stages: str) -> Any:
    """Return a factory of clients that list the queues of some stages; without one, that is denied."""

    def client(_: str) -> Any:
        sqs = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        stubber = Stubber(sqs)
        if stages:
            stubber.add_response(
                "list_queues", {"QueueUrls": [f"https://sqs/1/rolecall-{each}-accounts" for each in stages]}
            )
        else:
            stubber.add_client_error("list_queues", "AccessDenied")
        stubber.activate()
        return sqs

    return client


@pytest.mark.parametrize("deployed", [("dev", "prod"), ("dev",), ()])
def test_next_steps_name_the_default_stage_if_another_is_deployed(deployed: tuple[str, ...]) -> None:
    location = Location("aws", "111122223333", "us-east-1")
    lines = list(next_steps(_queues(*deployed), "prod", location, _DEFAULTS))
    assert any(line.startswith("  rolecall --stage prod backfill ") for line in lines)


def test_next_steps_are_commands_for_the_stage() -> None:
    location = Location("aws", "111122223333", "us-east-1")
    prod = list(next_steps(_queues("prod"), "prod", location, _DEFAULTS))
    assert prod[0].startswith("Stage prod is deployed: stack rolecall-prod in us-east-1 of account 111122223333.")
    assert any(line.startswith("  rolecall backfill ") for line in prod)
    assert "To be notified of alarms: rolecall deploy prod --alarm-email ADDRESS" in prod

    values = {"AlarmEmail": "ops@example.com", "AccessRoleStackSet": "true", "AccessRoleTargets": "r-ab12"}
    dev = list(next_steps(_queues("dev"), "dev", location, values))
    assert any(line.startswith("StackSet rolecall-dev-access creates the access role in r-ab12") for line in dev)
    assert any(line.startswith("  rolecall --stage dev prove --reader-profile NAME ") for line in dev)
    assert not any("--alarm-email" in line for line in dev)


_FORMER = settings()
_OUTDATED = {"outcome": "enrolled", "fingerprint": fingerprint(_FORMER), "attempted_fingerprint": None}
_REJECTED = {"outcome": "failed", "fingerprint": None, "attempted_fingerprint": "any"}
_UNKNOWN = {**_OUTDATED, "fingerprint": None}


def _role_lines(rows: list[dict[str, Any]], new: Settings) -> list[str]:
    return _plain(role_lines(count_roles(rows, new, desired_role(_FORMER, ANY_ACCOUNT))))


def test_changed_role_is_shown_with_its_waves() -> None:
    new = settings(
        ROLLOUT_PERCENT="10",
        MEMBER_ROLE_POLICY_ARNS="arn:{partition}:iam::{account_id}:policy/Own",
        EXTERNAL_ID="secret",
    )
    skipped = {**_OUTDATED, "outcome": "skipped"}
    assert _role_lines([*[_OUTDATED] * 55, *[_UNKNOWN] * 5, skipped], new) == [
        (
            "  ~ the member role in 60 accounts: detach arn:aws:iam::aws:policy/ReadOnlyAccess; replace the trust policy; "
            "attach arn:aws:iam::{account_id}:policy/Own"
        ),
        "    in 10 waves of at most 6 accounts (RolloutPercent=10); each resync, hourly ones too, starts the next",
        (
            "    ! what restricts the role is in force in every account only after 10 waves; to restrict all accounts with the "
            "next resync, set RolloutPercent=100"
        ),
    ]


def test_changed_role_is_shown_without_waves() -> None:
    assert _role_lines([_OUTDATED], settings(MEMBER_ROLE_TAGS="a=1,b=2", MEMBER_ROLE_MAX_SESSION="7200")) == [
        "  ~ the member role in 1 account: set the longest session to 7200 seconds; set the tags",
        "    by the next resync, all at once: rolecall resync",
    ]


def test_change_that_extends_the_role_has_no_warning() -> None:
    extended = settings(
        ROLLOUT_PERCENT="10",
        MEMBER_ROLE_POLICY_ARNS="arn:aws:iam::aws:policy/ReadOnlyAccess,arn:aws:iam::aws:policy/SecurityAudit",
    )
    assert len(_role_lines([_OUTDATED] * 20, extended)) == 2


def test_settings_of_former_roles_restore_failed_accounts() -> None:
    assert _role_lines([*[_OUTDATED] * 54, *[_REJECTED] * 6], settings(ROLLOUT_PERCENT="10")) == [
        "  ~ the member role in 6 accounts: made for other settings or by another release",
        "    in 1 wave of at most 6 accounts (RolloutPercent=10); each resync, hourly ones too, starts the next",
    ]


def test_unchanged_roles_are_not_shown() -> None:
    """Neither are those of an earlier release, whose settings stay."""
    assert _role_lines([_OUTDATED, _UNKNOWN], settings(THREADS="64")) == []


@pytest.mark.parametrize(
    ("name", "words", "former_words"),
    [
        ("DENY_DATA_READS", "delete inline policy DenyDataReads", "write inline policy DenyDataReads"),
        (
            "PERMISSIONS_BOUNDARY_ARN",
            "set the permissions boundary arn:aws:iam::{account_id}:policy/P",
            "remove the permissions boundary",
        ),
    ],
)
def test_change_of_the_role_is_in_words(name: str, words: str, former_words: str) -> None:
    pair = (_FORMER, settings(**{name: EXAMPLES[name][0]}))
    for (former, new), expected in ((pair, words), (pair[::-1], former_words)):
        (first, _) = _plain(role_lines(count_roles([_REJECTED], new, desired_role(former, ANY_ACCOUNT))))
        assert first == f"  ~ the member role in 1 account: {expected}"


def test_role_of_settings_that_are_not_valid_any_more_is_unknown() -> None:
    changes = count_roles([_OUTDATED], settings(MEMBER_ROLE_MAX_SESSION="7200"), None)
    assert _plain(role_lines(changes))[0] == (
        "  ~ the member role in 1 account: made for other settings or by another release"
    )
