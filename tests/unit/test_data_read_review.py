"""What verify/data_reads.py flags in a service's responses, with small models in place of botocore's."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ServiceModel

from chalicelib.data_read_denies import DENIED_DATA_READS
from verify.data_reads import (
    REVIEWED,
    action_of,
    allowed_actions,
    candidates,
    read_policy,
    reviewed_actions,
    shipped_policy,
    undecided,
)

SECURITY = (Path(__file__).parents[2] / "docs/security.md").read_text()
TEXT = {"type": "string"}


def service(
    response: dict[str, Any], *, shapes: dict[str, Any] | None = None, request: tuple[str, ...] = (), **operation: Any
) -> ServiceModel:
    """Return a service with the operation ReadThing, whose response has the members of these names and shapes."""
    name = "ReadThing"
    whole = {
        "name": name,
        "http": {"method": "POST", "requestUri": "/"},
        "input": {"shape": "Request"},
        "output": {"shape": "Response"},
    }
    return ServiceModel(
        {
            "metadata": {"endpointPrefix": "things", "protocol": "json"},
            "operations": {name: whole | operation},
            "shapes": {
                "Request": {"type": "structure", "members": {member: {"shape": "Text"} for member in request}},
                "Response": {"type": "structure", "members": {member: {"shape": member} for member in response}},
                "Text": TEXT,
                **response,
                **(shapes or {}),
            },
        },
        "things",
    )


def test_action_fails_until_it_is_denied_or_reviewed() -> None:
    found = candidates(["things:Read*"], [service({"Payload": {"type": "blob"}})])

    assert found == {"things:ReadThing": "ReadThing returns the blob Payload"}
    assert undecided(found, set()) == found
    assert undecided(found, {"things:ReadThing"}) == {}


@pytest.mark.parametrize(
    ("member", "shape", "kind"),
    [
        ("Body", {"type": "blob", "streaming": True}, "stream"),
        ("Records", {"type": "structure", "members": {}, "eventstream": True}, "event stream"),
        ("Item", {"type": "structure", "members": {}, "document": True}, "free-form document"),
        ("Answer", {"type": "string", "sensitive": True}, "sensitive"),
        ("MasterPassword", TEXT, "credential"),
        ("sessionToken", TEXT, "credential"),
        ("PresignedUrl", TEXT, "signed URL"),
        ("Link", {"type": "string", "documentation": "A pre-signed link."}, "signed URL"),
        ("TemplateBody", TEXT, "payload"),
    ],
)
def test_data_and_credentials_are_flagged(member: str, shape: dict[str, Any], kind: str) -> None:
    found = candidates(["things:*"], [service({member: shape})])

    assert found == {"things:ReadThing": f"ReadThing returns the {kind} {member}"}


@pytest.mark.parametrize(
    "outer",
    [
        {"type": "list", "member": {"shape": "Thing"}},
        {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Thing"}},
        {"type": "structure", "members": {"Inner": {"shape": "Thing"}, "Again": {"shape": "Outer"}}},
    ],
    ids=["list", "map", "structure"],
)
def test_nested_members_are_flagged(outer: dict[str, Any]) -> None:
    thing = {"type": "structure", "members": {"ApiKey": {"shape": "Text"}}}

    (why,) = candidates(["things:*"], [service({"Outer": outer}, shapes={"Thing": thing})]).values()

    assert why.startswith("ReadThing returns the credential Outer.")
    assert why.endswith("ApiKey")


@pytest.mark.parametrize(
    "member",
    [
        *("NextToken", "nextPageToken", "ContinuationToken", "ClientRequestToken", "LockToken", "HttpTokens"),
        *("SecretArn", "PasswordLastUsedDate", "CredentialProviderName", "TokenStatus", "WebsiteUrl", "Arn"),
    ],
)
def test_pagination_and_references_are_not_flagged(member: str) -> None:
    assert candidates(["things:*"], [service({member: TEXT})]) == {}


@pytest.mark.parametrize(
    ("member", "shape"),
    [
        ("NextToken", {"type": "string", "sensitive": True}),
        ("Description", {"type": "string", "sensitive": True}),
        ("Port", {"type": "integer", "sensitive": True}),
        ("SecretKind", {"type": "string", "enum": ["PLAIN"]}),
        ("Tags", {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Value"}}),
    ],
)
def test_labels_numbers_and_enums_are_not_flagged(member: str, shape: dict[str, Any]) -> None:
    model = service({member: shape}, shapes={"Value": {"type": "string", "sensitive": True}})

    assert candidates(["things:*"], [model]) == {}


def test_token_that_the_next_request_sends_is_for_paging() -> None:
    response = {"Token": TEXT}

    assert candidates(["things:*"], [service(response, request=("Token",))]) == {}
    assert candidates(["things:*"], [service(response)]) != {}


def test_only_allowed_and_signed_operations_count() -> None:
    response = {"Payload": {"type": "blob"}}

    assert candidates(["things:List*", "others:*"], [service(response)]) == {}
    assert candidates(["things:*"], [service(response, authtype="none")]) == {}


def test_action_without_an_api_is_judged_by_its_name() -> None:
    found = candidates(["things:GetObject", "things:PullMessages", "things:GetWidget", "things:*"], [])

    assert set(found) == {"things:GetObject", "things:PullMessages"}


def test_action_is_named_as_in_iam() -> None:
    model = service({})
    model.metadata["endpointPrefix"] = "monitoring"
    assert action_of(model, "ReadThing") == "cloudwatch:ReadThing"

    model.metadata["signingName"] = "apigateway"
    assert action_of(model, "ReadThing") == "apigateway:POST"


def test_policy_is_read_from_a_file(tmp_path: Path) -> None:
    document = {"Statement": [{"Effect": "Allow", "Action": "a:B"}, {"Effect": "Deny", "Action": ["c:D"]}]}
    path = tmp_path / "policy.json"

    for content in (document, {"PolicyVersion": {"Document": document}}):
        path.write_text(json.dumps(content))
        assert allowed_actions(read_policy(path)) == ["a:B"]
    assert "s3:Get*" in allowed_actions(shipped_policy())


def test_reviewed_actions_stay_open_for_a_documented_reason() -> None:
    reviewed = json.loads(REVIEWED.read_text())

    assert reviewed_actions().keys().isdisjoint(DENIED_DATA_READS)
    for category, entry in reviewed.items():
        assert f"| {category} | {entry['reason']} |" in SECURITY
        assert entry["actions"] == sorted(set(entry["actions"]))
    assert len(reviewed_actions()) == sum(len(entry["actions"]) for entry in reviewed.values())
