"""Who may read where, by IAM's own decision: every kind of reader and stranger, in accounts of every standing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import pytest
from botocore.exceptions import ClientError

from local.organization import Credentials, LocalOrganization, allowing, trusting
from tests.end_to_end.deployed_stage import Deploy
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
from tests.end_to_end.swept_stage import SweptStage, unheard_of

EXTERNAL_ID = "told-by-the-reader"
FOREIGN = "555566667777"
UNFROZEN = "unfrozen"


@dataclass(frozen=True)
class Setting:
    """What a stage is deployed with; any two values of scope, external id and readers occur together in one of the four."""

    name: str
    scope: str
    external_id: str
    kinds: tuple[str, ...]

    @property
    def member_role(self) -> str:
        return self.name.title()


SETTINGS = (
    Setting("open", "accounts", "", ("role", "user")),
    Setting("whole", "organization", EXTERNAL_ID, ("role", "user")),
    Setting("trusted", "accounts", EXTERNAL_ID, ("root",)),
    Setting("free", "organization", "", ("root",)),
)
ROWS = [(setting, kind) for setting in SETTINGS for kind in setting.kinds]


class World:
    """One organization with the four stages, where everybody has tried to get in everywhere; `answers` tells how it went."""

    def __init__(self, organization: LocalOrganization, deploy: Deploy) -> None:
        self.organization = organization
        self.source_account, self.neighbour, enrolled, skipped, retired, departed = unheard_of(organization, 6)
        self.accounts = {ENROLLED: enrolled, SKIPPED: skipped, RETIRED: retired, DEPARTED: departed, FROZEN: enrolled}
        self.callers = self._callers()
        self.stages = {setting: self._enrolled(setting, deploy) for setting in SETTINGS}
        organization.client("organizations").remove_account_from_organization(AccountId=departed)
        for setting, stage in self.stages.items():
            stage.settled(departed, "retired", "departed")
            stage.sweep("retire", accounts=[retired])
            stage.settled(retired, "retired", "retired_by_request")
            for account_id in (skipped, retired):
                self._put_back(setting, account_id)
        self.answers: dict[tuple[Setting, str, str, str], bool] = {}
        self.without_external_id: dict[tuple[Setting, str], list[bool]] = {}
        for setting, stage in self.stages.items():
            self._try(setting, *(each for each in STANDINGS if each != FROZEN))
            stage.ask("freeze", frozen=True)
            self._try(setting, FROZEN)
            stage.ask("freeze", frozen=False)
            self._try(setting, UNFROZEN)

    def _callers(self) -> Mapping[str, Credentials]:
        """Make the readers, which may do nothing of their own, and strangers, which may assume any role."""
        organization, source = self.organization, self.source_account
        iam = organization.client("iam", source)
        iam.create_user(UserName="reading")
        callers: dict[str, Credentials] = {
            "role": organization.as_role(organization.create_source_principal("Reader", source)),
            "user": iam.create_access_key(UserName="reading")["AccessKey"],
            "root": organization.as_role(organization.create_source_principal("Operated", source)),
        }
        homes = (source, organization.management_account_id, self.neighbour, FOREIGN)
        for caller, home in zip(CALLERS[1:], homes, strict=True):
            trust = trusting(f"arn:aws:iam::{home}:root")
            callers[caller] = organization.as_role(
                organization.create_role(home, "Stranger", trust, inline=allowing("sts:*"))
            )
        return callers

    def _enrolled(self, setting: Setting, deploy: Deploy) -> SweptStage:
        principals = {
            "role": f"arn:aws:iam::{self.source_account}:role/Reader",
            "user": f"arn:aws:iam::{self.source_account}:user/reading",
            "root": f"arn:aws:iam::{self.source_account}:root",
        }
        deployed = deploy(
            setting.name,
            SourcePrincipalArns=",".join(principals[kind] for kind in setting.kinds),
            SourcePolicyScope=setting.scope,
            ExternalId=setting.external_id,
            MemberRoleName=setting.member_role,
            SourcePolicyName=setting.member_role,
            ExcludeAccountIds=self.accounts[SKIPPED],
            IncludeManagementAccount="false",
            Schedules="DISABLED",
        )
        stage = SweptStage(self.organization, deployed.name)
        stage.sweep("backfill", accounts=sorted({*self.accounts.values()}))
        if "root" in setting.kinds:
            # The operator's own part: nothing can be attached to an account's root.
            self.organization.client("iam", self.source_account).attach_role_policy(
                RoleName="Operated", PolicyArn=f"arn:aws:iam::{self.source_account}:policy/{setting.member_role}"
            )
        return stage

    def _put_back(self, setting: Setting, account_id: str) -> None:
        """Put a role with the member role's trust where Rolecall keeps none."""
        iam = self.organization.client("iam", self.accounts[ENROLLED])
        trust = iam.get_role(RoleName=setting.member_role)["Role"]["AssumeRolePolicyDocument"]
        self.organization.create_role(account_id, setting.member_role, trust)

    def _try(self, setting: Setting, *standings: str) -> None:
        told = {"ExternalId": EXTERNAL_ID} if setting.external_id else {}
        for standing, kind in product(standings, setting.kinds):
            for caller in CALLERS:
                self.answers[setting, kind, caller, standing] = self._lets_in(setting, kind, caller, standing, told)
        if ENROLLED in standings:
            for kind in setting.kinds:
                self.without_external_id[setting, kind] = [
                    self._lets_in(setting, kind, SOURCE_PRINCIPAL, ENROLLED, untold)
                    for untold in ({}, {"ExternalId": "guessed"})
                ]

    def _lets_in(self, setting: Setting, kind: str, caller: str, standing: str, told: Mapping[str, str]) -> bool:
        account_id = self.accounts.get(standing, self.accounts[ENROLLED])
        who = self.callers[kind if caller == SOURCE_PRINCIPAL else caller]
        try:
            session = self.organization.assume(f"arn:aws:iam::{account_id}:role/{setting.member_role}", who, **told)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDenied"  # noqa: PT017 - a denial is one of two good answers
            return False
        return bool(session["AccessKeyId"])


@pytest.fixture(scope="module")
def world(organization: LocalOrganization, deploy: Deploy) -> World:
    return World(organization, deploy)


def differing(world: World, setting: Setting, kind: str) -> Iterator[str]:
    for caller, standing in product(CALLERS, STANDINGS):
        let_in = world.answers[setting, kind, caller, standing]
        if let_in != is_to_be_let_in(kind, caller, standing):
            yield f"{caller} is {'' if let_in else 'not '}let into {standing} accounts"


@pytest.mark.parametrize(("setting", "kind"), ROWS)
def test_only_who_should_is_let_in_and_only_where(world: World, setting: Setting, kind: str) -> None:
    assert list(differing(world, setting, kind)) == []


@pytest.mark.parametrize(("setting", "kind"), ROWS)
def test_the_external_id_is_asked_for_where_it_is_set_and_ignored_where_not(
    world: World, setting: Setting, kind: str
) -> None:
    assert world.without_external_id[setting, kind] == [not setting.external_id, not setting.external_id]


@pytest.mark.parametrize(("setting", "kind"), ROWS)
def test_after_the_freeze_all_is_as_before(world: World, setting: Setting, kind: str) -> None:
    before, after = (
        {caller: world.answers[setting, kind, caller, standing] for caller in CALLERS}
        for standing in (ENROLLED, UNFROZEN)
    )
    assert before == after


def test_every_setting_occurs_with_every_other() -> None:
    for axis, other in (("scope", "external_id"), ("scope", "kinds"), ("external_id", "kinds")):
        assert len({(getattr(each, axis), getattr(each, other)) for each in SETTINGS}) == len(SETTINGS)
