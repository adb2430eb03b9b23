"""Authorization of readers and of the functions' roles by an independent evaluator, in every partition.

The documents are those that the code writes and the template deploys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest

from chalicelib import member_role
from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import MAX_SHARDS, ShardContent, shard_name
from rolecall.partitions import EVENT_REGIONS
from tests.deployment.conftest import packaged, template
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, deployed
from tests.end_to_end.expected_access import (
    CALLERS,
    DEPARTED,
    ENROLLED,
    FROZEN,
    RETIRED,
    SKIPPED,
    SOURCE_PRINCIPAL,
    STATUSES,
    is_authorized,
)
from tests.end_to_end.function_sessions import FUNCTION_CAPABILITIES
from verify.evaluator import ALLOWED, AccessRequest, Evaluator

__all__ = ["packaged", "template"]

ORGANIZATION, EXTERNAL_ID = "o-abcdefghij", "secret-of-the-reader"
SOURCE, MEMBER, FOREIGN = "222233334444", "444455556666", "555566667777"
ACCOUNTS = {SKIPPED: "100000000001", RETIRED: "100000000002", DEPARTED: "100000000003", ENROLLED: "999999999998"}
ACCOUNTS[FROZEN] = ACCOUNTS[ENROLLED]
# Enough accounts that the enrolled one is in the second shard.
OTHERS = frozenset(AccountId(f"2{number:011}") for number in range(400))
PARTITIONS, KINDS = tuple(EVENT_REGIONS), ("role", "user", "root")
ANY_ROLE = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return Evaluator(tmp_path_factory.mktemp("evaluator"))


@dataclass(frozen=True)
class Setting:
    partition: str
    scope: str
    external_id: str
    kind: str

    def __str__(self) -> str:
        return " ".join([self.partition, self.scope, self.kind, *(["external id"] if self.external_id else [])])

    @property
    def settings(self) -> Settings:
        ending = {"role": "role/Reader", "user": "user/Reader", "root": "root"}[self.kind]
        return Settings.from_env(
            {
                "STAGE": "evaluated",
                "PARTITION": self.partition,
                "MANAGEMENT_ACCOUNT_ID": MANAGEMENT_ACCOUNT,
                "SOURCE_PRINCIPAL_ARNS": f"arn:{self.partition}:iam::{SOURCE}:{ending}",
                "SOURCE_POLICY_SCOPE": self.scope,
                "EXTERNAL_ID": self.external_id,
                "EXCLUDE_ACCOUNT_IDS": ACCOUNTS[SKIPPED],
            }
        )

    def shards(self) -> dict[str, ShardContent]:
        """Assign accounts as publish does: first all of them, then without the retired and departed ones."""
        settings = self.settings
        everyone = OTHERS | {AccountId(ACCOUNTS[each]) for each in (ENROLLED, RETIRED, DEPARTED)}
        retired, departed = AccountId(ACCOUNTS[RETIRED]), AccountId(ACCOUNTS[DEPARTED])
        final = {Access.GRANTED: everyone - {retired, departed}, Access.EXCLUDED: {retired}, Access.NONE: {departed}}
        contents: tuple[ShardContent, ...] = ()
        for rows in ({Access.GRANTED: everyone}, final):
            scope = settings.source_policy_scope
            contents = assign(contents, rows, settings, scope=scope, max_shards=MAX_SHARDS).contents
        return {shard_name(settings, index): content for index, content in enumerate(contents)}

    def documents(self) -> dict[str, Any]:
        settings, shards = self.settings, self.shards()
        policies = {
            # One frozen shard denies every session, whatever the others grant.
            f"{self} {name} {frozen}": document(
                settings, replace(content, frozen=frozen and name == settings.source_policy_name), ORGANIZATION
            ).content
            for frozen in (False, True)
            for name, content in shards.items()
        }
        return {f"{self} trust": member_role.trust_document(settings).content, **policies}

    def request(self, caller: str, status: str, external_id: str | None) -> AccessRequest:
        account_id = ACCOUNTS[status]
        homes = dict(zip(CALLERS, (SOURCE, SOURCE, MANAGEMENT_ACCOUNT, MEMBER, FOREIGN), strict=True))
        home = homes[caller]
        kind = "user" if self.kind == "user" else "role"
        name = "Reader" if caller == SOURCE_PRINCIPAL else "Other"
        arn = f"arn:{self.partition}:iam::{home}:{kind}/{name}"
        session = f"arn:{self.partition}:sts::{home}:assumed-role/{name}/reading"
        context = {"aws:PrincipalArn": arn, "aws:PrincipalAccount": home, "aws:ResourceAccount": account_id}
        if home != FOREIGN:
            context["aws:PrincipalOrgID"] = ORGANIZATION
        if status != DEPARTED:
            context["aws:ResourceOrgID"] = ORGANIZATION
        if external_id:
            context["sts:ExternalId"] = external_id
        frozen = status == FROZEN
        shards = tuple(f"{self} {name} {frozen}" for name in self.shards())
        return AccessRequest(
            principal=arn if kind == "user" else session,
            action="sts:AssumeRole",
            resource=f"arn:{self.partition}:iam::{account_id}:role/{self.settings.member_role_name}",
            account_id=account_id,
            identity=shards if caller == SOURCE_PRINCIPAL else ("any role",),
            trust=f"{self} trust",
            context=context,
        )


SETTINGS = [Setting(*each) for each in product(PARTITIONS, ("accounts", "organization"), ("", EXTERNAL_ID), KINDS)]


def test_access_is_as_expected_for_every_caller_and_status(evaluator: Evaluator) -> None:
    documents: dict[str, Any] = {"any role": ANY_ROLE}
    requests: dict[tuple[Setting, str, str], AccessRequest] = {}
    for setting in SETTINGS:
        documents |= setting.documents()
        for caller, status in product(CALLERS, STATUSES):
            requests[setting, caller, status] = setting.request(caller, status, setting.external_id)
    decisions = dict(zip(requests, evaluator.evaluate(documents, requests.values()), strict=True))
    assert len(decisions) == len(PARTITIONS) * 2 * 2 * len(KINDS) * len(CALLERS) * len(STATUSES)
    assert set(decisions.values()) == {ALLOWED, "ImplicitlyDenied", "ExplicitlyDenied"}
    wrong = [
        f"{setting}: {caller}, {status}: {decision}"
        for (setting, caller, status), decision in decisions.items()
        if (decision == ALLOWED) != is_authorized(setting.kind, caller, status)
    ]
    assert wrong == []


def test_external_id_is_required_only_if_configured(evaluator: Evaluator) -> None:
    documents = {name: each for setting in SETTINGS for name, each in setting.documents().items()}
    requests = {
        (setting, external_id): setting.request(SOURCE_PRINCIPAL, ENROLLED, external_id)
        for setting, external_id in product(SETTINGS, (None, "guessed", EXTERNAL_ID))
    }
    decisions = dict(zip(requests, evaluator.evaluate(documents, requests.values()), strict=True))
    wrong = [
        f"{setting}: {external_id}: {decision}"
        for (setting, external_id), decision in decisions.items()
        if (decision == ALLOWED) != (external_id == EXTERNAL_ID or not setting.external_id)
    ]
    assert wrong == []


FUNCTIONS = {name: "".join(word.title() for word in name.split("_")) for name in FUNCTION_CAPABILITIES}


def abuses(partition: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the action, resource and context of requests that every function's role must be denied."""
    own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    ours, others = f"{own}:policy/CrossAccountReadOnlyAccess", f"{own}:policy/Others"
    administrator = f"arn:{partition}:iam::aws:policy/AdministratorAccess"
    function = f"arn:{partition}:lambda:{EVENT_REGIONS[partition]}:{MANAGEMENT_ACCOUNT}:function:rolecall-dev-enroll"
    for role in ("Others", "Reader", "of-a-function"):
        yield "iam:PassRole", f"{own}:role/{role}", {"iam:PassedToService": "lambda.amazonaws.com"}
        yield "iam:UpdateAssumeRolePolicy", f"{own}:role/{role}", {}
        yield "iam:PutRolePolicy", f"{own}:role/{role}", {}
        yield "iam:DeleteRolePermissionsBoundary", f"{own}:role/{role}", {}
        yield "iam:AttachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": administrator}
        yield "iam:AttachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": others}
        yield "iam:DetachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": others}
    yield "iam:PassRole", f"{own}:role/CrossAccountReadOnlyRole", {"iam:PassedToService": "lambda.amazonaws.com"}
    yield "iam:AttachRolePolicy", f"{own}:role/CrossAccountReadOnlyRole", {"iam:PolicyARN": administrator}
    yield "iam:AttachRolePolicy", f"{own}:role/Others", {"iam:PolicyARN": ours}
    yield "iam:AttachUserPolicy", f"{own}:user/Others", {"iam:PolicyARN": ours}
    yield "iam:CreatePolicyVersion", others, {}
    yield "iam:SetDefaultPolicyVersion", ours, {}
    yield "iam:CreateAccessKey", f"{own}:user/reader", {}
    yield "lambda:UpdateFunctionCode", function, {}
    yield "lambda:InvokeFunction", function, {}
    for name in ("OrganizationAccountAccessRole", "Others"):
        organization = "o-another" if name.startswith("Organization") else ORGANIZATION
        yield "sts:AssumeRole", f"arn:{partition}:iam::{MEMBER}:role/{name}", {"aws:ResourceOrgID": organization}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_functions_roles_are_denied_what_conditions_can_prevent(
    evaluator: Evaluator, template: dict[str, Any], partition: str
) -> None:
    deployment = deployed(template, partition)
    documents, requests = _access_role_trust(partition), []
    for function in FUNCTIONS.values():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        requests += [_by_function(partition, function, *abuse) for abuse in abuses(partition)]
    decisions = evaluator.evaluate(documents, requests)
    allowed = [
        f"{each}: {decision}" for each, decision in zip(requests, decisions, strict=True) if "Denied" not in decision
    ]
    assert allowed == []


@pytest.mark.parametrize("separate", [False, True], ids=["management account", "separate source account"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_no_function_both_reaches_accounts_and_writes_the_source_policy(
    evaluator: Evaluator, template: dict[str, Any], partition: str, *, separate: bool
) -> None:
    own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    readers = {"SourcePrincipalArns": f"arn:{partition}:iam::{SOURCE}:role/Reader"} if separate else {}
    deployment = deployed(template, partition, **readers)
    source = "access roles of the source account"
    calls = {
        "member roles": ("iam:PutRolePolicy", f"{own}:role/CrossAccountReadOnlyRole", {}),
        "access roles": _assume_access_role(partition, MEMBER),
        source: _assume_access_role(partition, SOURCE),
        "source policy": ("iam:CreatePolicyVersion", f"{own}:policy/CrossAccountReadOnlyAccess", {}),
    }
    documents, requests = _access_role_trust(partition), {}
    for name, function in FUNCTIONS.items():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        for capability, call in calls.items():
            requests[name, capability] = _by_function(partition, function, *call)
    decisions = dict(zip(requests, evaluator.evaluate(documents, requests.values()), strict=True))
    capabilities = {name: {each for each in calls if decisions[name, each] == ALLOWED} for name in FUNCTIONS}
    expected = {
        name: each | ({source} if "access roles" in each else set()) for name, each in FUNCTION_CAPABILITIES.items()
    }
    assert capabilities == expected | ({"publish": {source}} if separate else {})


def _assume_access_role(partition: str, account_id: str) -> tuple[str, str, dict[str, str]]:
    role = f"arn:{partition}:iam::{account_id}:role/OrganizationAccountAccessRole"
    return "sts:AssumeRole", role, {"aws:ResourceOrgID": ORGANIZATION, "aws:ResourceAccount": account_id}


def _access_role_trust(partition: str) -> dict[str, Any]:
    principal = {"AWS": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {f"access {partition}": {"Version": "2012-10-17", "Statement": [statement]}}


def _by_function(partition: str, function: str, action: str, resource: str, context: dict[str, str]) -> AccessRequest:
    principal = {
        "aws:PrincipalOrgID": ORGANIZATION,
        "aws:PrincipalArn": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:role/{function}",
    }
    return AccessRequest(
        principal=f"arn:{partition}:sts::{MANAGEMENT_ACCOUNT}:assumed-role/{function}/running",
        action=action,
        resource=resource,
        account_id=resource.split(":")[4],
        identity=(function,),
        trust=f"access {partition}" if action == "sts:AssumeRole" else None,
        context={**principal, **context},
    )
