"""Who may read where, and what the functions' roles may do, by another evaluator than the local AWS, in every partition.

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
from rolecall.regions import EVENT_REGIONS
from tests.deployment.conftest import packaged, template
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, deployed
from tests.end_to_end.function_sessions import HELD
from tests.end_to_end.let_in import (
    CALLERS,
    DEPARTED,
    ENROLLED,
    FROZEN,
    RETIRED,
    SKIPPED,
    SOURCE_PRINCIPAL,
    STANDINGS,
    is_to_be_let_in,
)
from verify.evaluator import ALLOWED, Asked, Evaluator

__all__ = ["packaged", "template"]

ORGANIZATION, EXTERNAL_ID = "o-abcdefghij", "told-by-the-reader"
SOURCE, NEIGHBOUR, FOREIGN = "222233334444", "444455556666", "555566667777"
ACCOUNTS = {SKIPPED: "100000000001", RETIRED: "100000000002", DEPARTED: "100000000003", ENROLLED: "999999999998"}
ACCOUNTS[FROZEN] = ACCOUNTS[ENROLLED]
# So many are enrolled before the one that is looked at that the second shard names it.
OTHERS = frozenset(AccountId(f"2{number:011}") for number in range(400))
PARTITIONS, KINDS = tuple(EVENT_REGIONS), ("role", "user", "root")
STRANGER = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}


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
                "STAGE": "judged",
                "PARTITION": self.partition,
                "MANAGEMENT_ACCOUNT_ID": MANAGEMENT_ACCOUNT,
                "SOURCE_PRINCIPAL_ARNS": f"arn:{self.partition}:iam::{SOURCE}:{ending}",
                "SOURCE_POLICY_SCOPE": self.scope,
                "EXTERNAL_ID": self.external_id,
                "EXCLUDE_ACCOUNT_IDS": ACCOUNTS[SKIPPED],
            }
        )

    def shards(self) -> dict[str, ShardContent]:
        """Assign accounts as publish does: all that are ever enrolled, then without those that leave again."""
        settings = self.settings
        ever = OTHERS | {AccountId(ACCOUNTS[each]) for each in (ENROLLED, RETIRED, DEPARTED)}
        retired, departed = AccountId(ACCOUNTS[RETIRED]), AccountId(ACCOUNTS[DEPARTED])
        left = {Access.GRANTED: ever - {retired, departed}, Access.EXCLUDED: {retired}, Access.NONE: {departed}}
        contents: tuple[ShardContent, ...] = ()
        for rows in ({Access.GRANTED: ever}, left):
            scope = settings.source_policy_scope
            contents = assign(contents, rows, settings, scope=scope, max_shards=MAX_SHARDS).contents
        return {shard_name(settings, index): content for index, content in enumerate(contents)}

    def documents(self) -> dict[str, Any]:
        settings, shards = self.settings, self.shards()
        written = {
            # One frozen shard denies every session, whatever the others grant.
            f"{self} {name} {frozen}": document(
                settings, replace(content, frozen=frozen and name == settings.source_policy_name), ORGANIZATION
            ).content
            for frozen in (False, True)
            for name, content in shards.items()
        }
        return {f"{self} trust": member_role.trust_document(settings).content, **written}

    def asked(self, caller: str, standing: str, external_id: str | None) -> Asked:
        account_id = ACCOUNTS[standing]
        homes = dict(zip(CALLERS, (SOURCE, SOURCE, MANAGEMENT_ACCOUNT, NEIGHBOUR, FOREIGN), strict=True))
        home = homes[caller]
        kind = "user" if self.kind == "user" else "role"
        name = "Reader" if caller == SOURCE_PRINCIPAL else "Stranger"
        arn = f"arn:{self.partition}:iam::{home}:{kind}/{name}"
        session = f"arn:{self.partition}:sts::{home}:assumed-role/{name}/reading"
        context = {"aws:PrincipalArn": arn, "aws:PrincipalAccount": home, "aws:ResourceAccount": account_id}
        if home != FOREIGN:
            context["aws:PrincipalOrgID"] = ORGANIZATION
        if standing != DEPARTED:
            context["aws:ResourceOrgID"] = ORGANIZATION
        if external_id:
            context["sts:ExternalId"] = external_id
        frozen = standing == FROZEN
        shards = tuple(f"{self} {name} {frozen}" for name in self.shards())
        return Asked(
            principal=arn if kind == "user" else session,
            action="sts:AssumeRole",
            resource=f"arn:{self.partition}:iam::{account_id}:role/{self.settings.member_role_name}",
            account_id=account_id,
            identity=shards if caller == SOURCE_PRINCIPAL else ("stranger",),
            trust=f"{self} trust",
            context=context,
        )


SETTINGS = [Setting(*each) for each in product(PARTITIONS, ("accounts", "organization"), ("", EXTERNAL_ID), KINDS)]


def test_only_who_should_is_let_in_and_only_where(evaluator: Evaluator) -> None:
    documents: dict[str, Any] = {"stranger": STRANGER}
    cases: dict[tuple[Setting, str, str], Asked] = {}
    for setting in SETTINGS:
        documents |= setting.documents()
        for caller, standing in product(CALLERS, STANDINGS):
            cases[setting, caller, standing] = setting.asked(caller, standing, setting.external_id)
    answers = dict(zip(cases, evaluator.answers(documents, cases.values()), strict=True))
    assert len(answers) == len(PARTITIONS) * 2 * 2 * len(KINDS) * len(CALLERS) * len(STANDINGS)
    assert set(answers.values()) == {ALLOWED, "ImplicitlyDenied", "ExplicitlyDenied"}
    wrong = [
        f"{setting}: {caller}, {standing}: {answer}"
        for (setting, caller, standing), answer in answers.items()
        if (answer == ALLOWED) != is_to_be_let_in(setting.kind, caller, standing)
    ]
    assert wrong == []


def test_the_external_id_is_asked_for_where_it_is_set(evaluator: Evaluator) -> None:
    documents = {name: each for setting in SETTINGS for name, each in setting.documents().items()}
    cases = {
        (setting, told): setting.asked(SOURCE_PRINCIPAL, ENROLLED, told)
        for setting, told in product(SETTINGS, (None, "guessed", EXTERNAL_ID))
    }
    answers = dict(zip(cases, evaluator.answers(documents, cases.values()), strict=True))
    wrong = [
        f"{setting}: {told}: {answer}"
        for (setting, told), answer in answers.items()
        if (answer == ALLOWED) != (told == EXTERNAL_ID or not setting.external_id)
    ]
    assert wrong == []


FUNCTIONS = {name: "".join(word.title() for word in name.split("_")) for name in HELD}


def abuses(partition: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """List what no function's role may do, whatever the function is for."""
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
        yield "sts:AssumeRole", f"arn:{partition}:iam::{NEIGHBOUR}:role/{name}", {"aws:ResourceOrgID": organization}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_functions_roles_may_be_abused_for_nothing_that_a_condition_can_close(
    evaluator: Evaluator, template: dict[str, Any], partition: str
) -> None:
    deployment = deployed(template, partition)
    documents, asked = _access_roles_trust(partition), []
    for function in FUNCTIONS.values():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        for action, resource, context in abuses(partition):
            asked.append(_by_function(partition, function, action, resource, context))
    answers = evaluator.answers(documents, asked)
    assert [f"{each}: {answer}" for each, answer in zip(asked, answers, strict=True) if "Denied" not in answer] == []


@pytest.mark.parametrize("elsewhere", [False, True], ids=["source account here", "source account elsewhere"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_no_function_reaches_accounts_and_writes_the_source_policy(
    evaluator: Evaluator, template: dict[str, Any], partition: str, *, elsewhere: bool
) -> None:
    own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    readers = {"SourcePrincipalArns": f"arn:{partition}:iam::{SOURCE}:role/Reader"} if elsewhere else {}
    deployment = deployed(template, partition, **readers)
    powers = {
        "member roles": ("iam:PutRolePolicy", f"{own}:role/CrossAccountReadOnlyRole", {}),
        "access roles": _entering(partition, NEIGHBOUR),
        "access roles of the source account": _entering(partition, SOURCE),
        "source policy": ("iam:CreatePolicyVersion", f"{own}:policy/CrossAccountReadOnlyAccess", {}),
    }
    documents, asked = _access_roles_trust(partition), {}
    for name, function in FUNCTIONS.items():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        for power, call in powers.items():
            asked[name, power] = _by_function(partition, function, *call)
    answers = dict(zip(asked, evaluator.answers(documents, asked.values()), strict=True))
    held = {name: {power for power in powers if answers[name, power] == ALLOWED} for name in FUNCTIONS}
    source = "access roles of the source account"
    expected = {name: each | ({source} if "access roles" in each else set()) for name, each in HELD.items()}
    assert held == expected | ({"publish": {source}} if elsewhere else {})


def _entering(partition: str, account_id: str) -> tuple[str, str, dict[str, str]]:
    role = f"arn:{partition}:iam::{account_id}:role/OrganizationAccountAccessRole"
    return "sts:AssumeRole", role, {"aws:ResourceOrgID": ORGANIZATION, "aws:ResourceAccount": account_id}


def _access_roles_trust(partition: str) -> dict[str, Any]:
    principal = {"AWS": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {f"access {partition}": {"Version": "2012-10-17", "Statement": [statement]}}


def _by_function(partition: str, function: str, action: str, resource: str, context: dict[str, str]) -> Asked:
    own = {
        "aws:PrincipalOrgID": ORGANIZATION,
        "aws:PrincipalArn": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:role/{function}",
    }
    return Asked(
        principal=f"arn:{partition}:sts::{MANAGEMENT_ACCOUNT}:assumed-role/{function}/running",
        action=action,
        resource=resource,
        account_id=resource.split(":")[4],
        identity=(function,),
        trust=f"access {partition}" if action == "sts:AssumeRole" else None,
        context={**own, **context},
    )
