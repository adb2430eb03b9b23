"""Who may assume the member role, by IAM's evaluation: every caller, in accounts of every status."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import pytest
from botocore.exceptions import ClientError

from local.organization import Credentials, LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
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
from tests.end_to_end.organization_changes import create_without_events

EXTERNAL_ID = "secret-of-the-reader"
FOREIGN = "555566667777"
UNFROZEN = "unfrozen"


@dataclass(frozen=True)
class Setting:
    """The parameters of a stage; the independent evaluator covers the other combinations."""

    name: str
    scope: str
    external_id: str
    kinds: tuple[str, ...]

    @property
    def member_role(self) -> str:
        return self.name.title()


SETTINGS = (
    Setting("accounts", "accounts", "", ("role", "user")),
    Setting("organization", "organization", EXTERNAL_ID, ("role", "user")),
    Setting("root", "accounts", EXTERNAL_ID, ("root",)),
)
ROWS = [(setting, kind) for setting in SETTINGS for kind in setting.kinds]


class Matrix:
    """One organization with a stage for each setting, in which every caller has tried to assume each member role."""

    def __init__(self, organization: LocalOrganization, deploy: Deploy) -> None:
        self.organization = organization
        self.source_account, self.other_account, enrolled, skipped, retired, departed = create_without_events(
            organization, 6
        )
        self.accounts = {ENROLLED: enrolled, SKIPPED: skipped, RETIRED: retired, DEPARTED: departed}
        self.callers = self._create_callers()
        stages = {setting: self._enroll(setting, deploy) for setting in SETTINGS}
        organization.client("organizations").remove_account_from_organization(AccountId=departed)
        for setting, stage in stages.items():
            stage.wait_for_outcome(departed, "retired", "departed")
            stage.invoke_and_wait("retire", accounts=[retired])
            stage.wait_for_outcome(retired, "retired", "retired_by_request")
            for account_id in (skipped, retired):
                self._create_member_role(setting, account_id)
        self.authorized: dict[tuple[Setting, str, str, str], bool] = {}
        self.without_external_id: dict[tuple[Setting, str], list[bool]] = {}
        for setting, stage in stages.items():
            self._try_all(setting, *self.accounts)
            self._try_without_external_id(setting)
            stage.invoke("freeze", frozen=True)
            self._try_all(setting, FROZEN)
            stage.invoke("freeze", frozen=False)
            self._try_all(setting, UNFROZEN)

    def _create_callers(self) -> Mapping[str, Credentials]:
        """Create source principals without permissions, and other principals that may assume every role."""
        organization, source = self.organization, self.source_account
        iam = organization.client("iam", source)
        iam.create_user(UserName="reading")
        callers: dict[str, Credentials] = {
            "role": organization.as_role(organization.create_source_principal("Reader", source)),
            "user": iam.create_access_key(UserName="reading")["AccessKey"],
            "root": organization.as_role(organization.create_source_principal("Attached", source)),
        }
        homes = (source, organization.management_account_id, self.other_account, FOREIGN)
        for caller, home in zip(CALLERS[1:], homes, strict=True):
            trust = trust_policy(f"arn:aws:iam::{home}:root")
            role = organization.create_role(home, "Other", trust, inline=allow_policy("sts:*"))
            callers[caller] = organization.as_role(role)
        return callers

    def _enroll(self, setting: Setting, deploy: Deploy) -> DeployedStage:
        principals = {
            "role": f"arn:aws:iam::{self.source_account}:role/Reader",
            "user": f"arn:aws:iam::{self.source_account}:user/reading",
            "root": f"arn:aws:iam::{self.source_account}:root",
        }
        stage = deploy(
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
        stage.invoke_and_wait("backfill", accounts=sorted(self.accounts.values()))
        if "root" in setting.kinds:
            # The operator's task, since no policy can be attached to an account's root.
            self.organization.client("iam", self.source_account).attach_role_policy(
                RoleName="Attached", PolicyArn=f"arn:aws:iam::{self.source_account}:policy/{setting.member_role}"
            )
        return stage

    def _create_member_role(self, setting: Setting, account_id: str) -> None:
        """Create a role with the member role's name and trust policy in an account that has none."""
        iam = self.organization.client("iam", self.accounts[ENROLLED])
        trust = iam.get_role(RoleName=setting.member_role)["Role"]["AssumeRolePolicyDocument"]
        self.organization.create_role(account_id, setting.member_role, trust)

    def _try_all(self, setting: Setting, *statuses: str) -> None:
        request = {"ExternalId": EXTERNAL_ID} if setting.external_id else {}
        for status, kind, caller in product(statuses, setting.kinds, CALLERS):
            self.authorized[setting, kind, caller, status] = self._try(setting, kind, caller, status, request)

    def _try_without_external_id(self, setting: Setting) -> None:
        requests: list[dict[str, str]] = [{}, {"ExternalId": "guessed"}]
        for kind in setting.kinds:
            self.without_external_id[setting, kind] = [
                self._try(setting, kind, SOURCE_PRINCIPAL, ENROLLED, request) for request in requests
            ]

    def _try(self, setting: Setting, kind: str, caller: str, status: str, request: Mapping[str, str]) -> bool:
        account_id = self.accounts.get(status, self.accounts[ENROLLED])
        credentials = self.callers[kind if caller == SOURCE_PRINCIPAL else caller]
        try:
            self.organization.assume(f"arn:aws:iam::{account_id}:role/{setting.member_role}", credentials, **request)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDenied"  # noqa: PT017 - a denial is an expected result
            return False
        return True


@pytest.fixture(scope="module")
def matrix(organization: LocalOrganization, deploy: Deploy) -> Matrix:
    return Matrix(organization, deploy)


@pytest.mark.parametrize(("setting", "kind"), ROWS)
def test_access_is_as_expected_for_every_caller_and_status(matrix: Matrix, setting: Setting, kind: str) -> None:
    wrong = [
        f"{caller}, {status}"
        for caller, status in product(CALLERS, (*STATUSES, UNFROZEN))
        if matrix.authorized[setting, kind, caller, status]
        != is_authorized(kind, caller, ENROLLED if status == UNFROZEN else status)
    ]
    assert wrong == []


@pytest.mark.parametrize(("setting", "kind"), ROWS)
def test_external_id_is_required_only_if_configured(matrix: Matrix, setting: Setting, kind: str) -> None:
    assert matrix.without_external_id[setting, kind] == [not setting.external_id, not setting.external_id]
