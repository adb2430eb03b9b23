import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import bootstrap
from chalicelib.arns import AccountId, parse_principal
from chalicelib.errors import SettingsError
from chalicelib.settings import ENVIRONMENT_LIMIT, Scope, Settings, check_environment_size
from tests.unit.builders import MANAGEMENT, PARTITIONS, SOURCE, environ, settings

READER = f"arn:aws:iam::{SOURCE}:role/Reader"
SSO = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Reader_*"
REQUIRED = ["SOURCE_PRINCIPAL_ARNS", "STAGE", "PARTITION", "MANAGEMENT_ACCOUNT_ID"]


def refusal(**changes: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    return str(caught.value)


def test_what_is_not_set_has_its_default() -> None:
    defaults = Settings(
        stage="dev",
        partition="aws",
        management_account_id=MANAGEMENT,
        source_principals=(parse_principal(READER),),
        member_role_name="CrossAccountReadOnlyRole",
        member_role_policy_arns=("arn:{partition}:iam::aws:policy/ReadOnlyAccess",),
        deny_data_reads=True,
        member_role_max_session=3600,
        permissions_boundary_arn=None,
        external_id=None,
        member_role_tags={},
        attach_source_policy=True,
        source_policy_name="CrossAccountReadOnlyAccess",
        source_policy_scope=Scope.ACCOUNTS,
        access_role_names=("OrganizationAccountAccessRole", "AWSControlTowerExecution"),
        include_ou_ids=frozenset(),
        exclude_ou_ids=frozenset(),
        exclude_account_ids=frozenset(),
        include_management_account=True,
        adopt_existing_roles=False,
        ready_grace_seconds=1800,
        max_retired_percent=20,
        threads=10,
    )

    assert settings() == defaults
    assert settings(**{name.upper(): " " for name in defaults.__slots__ if name.upper() not in environ()}) == defaults


def test_every_setting_is_read() -> None:
    read = settings(
        "aws-cn",
        STAGE="prod-2",
        SOURCE_PRINCIPAL_ARNS="arn:aws-cn:iam::111122223333:user/b, arn:aws-cn:iam::111122223333:role/a",
        MEMBER_ROLE_NAME="Reader@Org",
        MEMBER_ROLE_POLICY_ARNS="arn:aws-cn:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/a/B",
        DENY_DATA_READS="false",
        MEMBER_ROLE_MAX_SESSION="43200",
        PERMISSIONS_BOUNDARY_ARN="arn:aws-cn:iam::{account_id}:policy/Boundary",
        EXTERNAL_ID="a:b/c",
        MEMBER_ROLE_TAGS="team=platform,cost centre=a=b",
        ATTACH_SOURCE_POLICY="false",
        SOURCE_POLICY_NAME="Access",
        SOURCE_POLICY_SCOPE="organization",
        ACCESS_ROLE_NAMES="One, Two,One",
        INCLUDE_OU_IDS="ou-ab12-11111111",
        EXCLUDE_OU_IDS="ou-ab12-22222222,ou-ab12-33333333",
        EXCLUDE_ACCOUNT_IDS="444455556666",
        INCLUDE_MANAGEMENT_ACCOUNT="false",
        ADOPT_EXISTING_ROLES="true",
        READY_GRACE_SECONDS="0",
        MAX_RETIRED_PERCENT="100",
        THREADS="64",
    )

    assert read == Settings(
        stage="prod-2",
        partition="aws-cn",
        management_account_id=MANAGEMENT,
        source_principals=(
            parse_principal("arn:aws-cn:iam::111122223333:user/b"),
            parse_principal("arn:aws-cn:iam::111122223333:role/a"),
        ),
        member_role_name="Reader@Org",
        member_role_policy_arns=(
            "arn:aws-cn:iam::aws:policy/SecurityAudit",
            "arn:{partition}:iam::{account_id}:policy/a/B",
        ),
        deny_data_reads=False,
        member_role_max_session=43200,
        permissions_boundary_arn="arn:aws-cn:iam::{account_id}:policy/Boundary",
        external_id="a:b/c",
        member_role_tags={"team": "platform", "cost centre": "a=b"},
        attach_source_policy=False,
        source_policy_name="Access",
        source_policy_scope=Scope.ORGANIZATION,
        access_role_names=("One", "Two"),
        include_ou_ids=frozenset({"ou-ab12-11111111"}),
        exclude_ou_ids=frozenset({"ou-ab12-22222222", "ou-ab12-33333333"}),
        exclude_account_ids=frozenset({AccountId("444455556666")}),
        include_management_account=False,
        adopt_existing_roles=True,
        ready_grace_seconds=0,
        max_retired_percent=100,
        threads=64,
    )


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_required_setting_that_is_missing_is_named(name: str, value: str | None) -> None:
    held = {key: text for key, text in environ().items() if key != name} | ({} if value is None else {name: value})

    with pytest.raises(SettingsError, match=f"^{name} is not set: it must be "):
        Settings.from_env(held)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("STAGE", "Dev", "lower-case"),
        ("STAGE", "2nd", "a letter first"),
        ("STAGE", "a" * 21, "1 to 20"),
        ("PARTITION", "arn:aws", "aws-us-gov"),
        ("MANAGEMENT_ACCOUNT_ID", "12345", "twelve digits"),
        ("SOURCE_PRINCIPAL_ARNS", "Reader", "ARNs of roles or users"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws:iam::111122223333:roles/Reader", "ARNs of roles or users"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws:iam::111122223333:role/*", "wildcard"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws:sts::111122223333:assumed-role/Reader/jo", "session"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws-cn:iam::111122223333:role/Reader", "partition"),
        ("MEMBER_ROLE_NAME", "path/Reader", "with no path"),
        ("MEMBER_ROLE_NAME", "R" * 65, "1 to 64"),
        ("MEMBER_ROLE_NAME", "OrganizationAccountAccessRole", "not one of ACCESS_ROLE_NAMES"),
        ("MEMBER_ROLE_NAME", "awscontroltowerexecution", "not one of ACCESS_ROLE_NAMES"),
        ("MEMBER_ROLE_POLICY_ARNS", "ReadOnlyAccess", "a managed policy's ARN"),
        ("MEMBER_ROLE_POLICY_ARNS", "arn:aws-cn:iam::aws:policy/ReadOnlyAccess", "a managed policy's ARN"),
        ("MEMBER_ROLE_POLICY_ARNS", "arn:aws:iam::aws:policy/*", "a managed policy's ARN"),
        ("MEMBER_ROLE_POLICY_ARNS", "arn:aws:iam::{account}:policy/Own", "a managed policy's ARN"),
        ("DENY_DATA_READS", "yes", "true or false"),
        ("MEMBER_ROLE_MAX_SESSION", "43201", "from 3600 to 43200"),
        ("MEMBER_ROLE_MAX_SESSION", "3599", "from 3600 to 43200"),
        ("MEMBER_ROLE_MAX_SESSION", "1h", "a whole number"),
        ("MEMBER_ROLE_MAX_SESSION", "3600.0", "a whole number"),
        ("MEMBER_ROLE_MAX_SESSION", "٣٦٠٠", "a whole number"),
        ("MEMBER_ROLE_MAX_SESSION", "9" * 5000, "a whole number"),
        ("PERMISSIONS_BOUNDARY_ARN", "Boundary", "a managed policy's ARN"),
        ("EXTERNAL_ID", "x", "2 to 1224"),
        ("EXTERNAL_ID", "a b", "2 to 1224"),
        ("EXTERNAL_ID", "*" * 3, "2 to 1224"),
        ("MEMBER_ROLE_TAGS", "team", "key=value"),
        ("MEMBER_ROLE_TAGS", "=platform", "key=value"),
        ("MEMBER_ROLE_TAGS", "aws:team=platform", "key=value"),
        ("MEMBER_ROLE_TAGS", "team=<b>", "key=value"),
        ("MEMBER_ROLE_TAGS", "k" * 129 + "=v", "key=value"),
        ("MEMBER_ROLE_TAGS", "k=" + "v" * 257, "key=value"),
        ("MEMBER_ROLE_TAGS", "managed-by=me", "ownership tags"),
        ("MEMBER_ROLE_TAGS", "Rolecall-Stage=mine", "ownership tags"),
        ("ATTACH_SOURCE_POLICY", "True", "true or false"),
        ("SOURCE_POLICY_NAME", "a/b", "a policy name"),
        ("SOURCE_POLICY_NAME", "P" * 121, "1 to 120"),
        ("SOURCE_POLICY_SCOPE", "everyone", "accounts or organization"),
        ("ACCESS_ROLE_NAMES", "role/Admin", "a role name"),
        ("INCLUDE_OU_IDS", "r-ab12", "an organizational unit's id"),
        ("EXCLUDE_OU_IDS", "Workloads", "an organizational unit's id"),
        ("EXCLUDE_ACCOUNT_IDS", "1234", "twelve digits"),
        ("INCLUDE_MANAGEMENT_ACCOUNT", "1", "true or false"),
        ("ADOPT_EXISTING_ROLES", "no", "true or false"),
        ("READY_GRACE_SECONDS", "10801", "from 0 to 10800"),
        ("READY_GRACE_SECONDS", "-1", "a whole number"),
        ("MAX_RETIRED_PERCENT", "101", "from 0 to 100"),
        ("THREADS", "0", "from 1 to 64"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_holds_and_what_it_may_hold(name: str, value: str, expected: str) -> None:
    message = refusal(**{name: value})

    assert message.startswith(f"{name} ")
    assert repr(value) in message
    assert expected in message
    assert "must be " in message


@pytest.mark.parametrize(
    "listed", ["EXCLUDE_ACCOUNT_IDS", "ACCESS_ROLE_NAMES", "SOURCE_PRINCIPAL_ARNS", "INCLUDE_OU_IDS"]
)
def test_the_one_bad_part_of_a_list_is_told(listed: str) -> None:
    good = {
        "EXCLUDE_ACCOUNT_IDS": "444455556666",
        "ACCESS_ROLE_NAMES": "Admin",
        "SOURCE_PRINCIPAL_ARNS": READER,
        "INCLUDE_OU_IDS": "ou-ab12-11111111",
    }

    message = refusal(**{listed: f"{good[listed]},b*d"})

    assert message.startswith(f"{listed} holds 'b*d'")
    assert refusal(**{listed: f"{good[listed]},,"}).startswith(f"{listed} holds ''")


def test_principals_of_two_accounts_are_refused_with_both_accounts() -> None:
    message = refusal(SOURCE_PRINCIPAL_ARNS=f"{READER},arn:aws:iam::444455556666:role/Reader")

    assert message.startswith("SOURCE_PRINCIPAL_ARNS holds principals of 2 accounts (111122223333, 444455556666)")
    assert "deploy a second stage for the other account" in message


def test_a_root_stands_alone() -> None:
    root = f"arn:aws:iam::{SOURCE}:root"

    assert settings(SOURCE_PRINCIPAL_ARNS=root).source_principals == (parse_principal(root),)
    assert "must be the only one" in refusal(SOURCE_PRINCIPAL_ARNS=f"{READER},{root}")


def test_nothing_can_be_attached_to_a_role_of_identity_center() -> None:
    message = refusal(SOURCE_PRINCIPAL_ARNS=SSO)

    assert message.startswith("ATTACH_SOURCE_POLICY is 'true': it must be false")
    assert "permission set" in message
    assert settings(SOURCE_PRINCIPAL_ARNS=SSO, ATTACH_SOURCE_POLICY="false").attachable_principals == ()


def test_the_source_policy_is_attached_to_roles_and_users_unless_another_tool_does_it() -> None:
    user = f"arn:aws:iam::{SOURCE}:user/jo"

    def attached_to(arns: str, attach: str = "true") -> list[str]:
        held = settings(SOURCE_PRINCIPAL_ARNS=arns, ATTACH_SOURCE_POLICY=attach)
        return [principal.arn for principal in held.attachable_principals]

    assert attached_to(f"{READER},{user}") == [READER, user]
    assert attached_to(f"{READER},{user}", "false") == []
    assert attached_to(f"arn:aws:iam::{SOURCE}:root") == []


def test_tags_differ_by_more_than_case_and_leave_room_for_two() -> None:
    most = ",".join(f"key{number}=value" for number in range(48))

    assert len(settings(MEMBER_ROLE_TAGS=most).member_role_tags) == 48
    assert "holds 49 tags: it must be at most 48" in refusal(MEMBER_ROLE_TAGS=f"{most},one=more")
    assert "is there twice" in refusal(MEMBER_ROLE_TAGS="team=a,Team=b")


@given(name=st.sampled_from(sorted({*environ(), *map(str.upper, settings().__slots__)})), value=st.text())
def test_whatever_a_variable_holds_it_is_read_or_refused_by_name(name: str, value: str) -> None:
    try:
        refused = settings(**{name: value}) and ""
    except SettingsError as error:
        refused = str(error)

    # What is of another partition than PARTITION says is refused by its own name.
    assert not refused or refused.startswith((name, "SOURCE_PRINCIPAL_ARNS"))


def test_lambdas_limit_on_the_environment_counts_bytes_of_names_and_values() -> None:
    fits = {"A": "x" * 1000, "LONG": "é" * ((ENVIRONMENT_LIMIT - 1005) // 2)}

    check_environment_size(fits | {"": "x" * ((ENVIRONMENT_LIMIT - 1005) % 2)})
    with pytest.raises(SettingsError, match=r"take 4097 bytes .* allows 4096: shorten LONG, which takes 3094"):
        check_environment_size(fits | {"": "xx"})


def test_a_byte_that_is_no_text_counts_as_one_and_is_refused_where_it_is_read() -> None:
    with pytest.raises(SettingsError, match=r"take 4097 bytes .* shorten LONG"):
        check_environment_size({"LONG": "\udcff" * 4093})
    assert refusal(EXTERNAL_ID="\udcff\udcff").startswith(r"EXTERNAL_ID is '\udcff\udcff'")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"EXTERNAL_ID": "x" * 1224, "SOURCE_PRINCIPAL_ARNS": f"{READER}{'r' * 500}"}, "EXTERNAL_ID"),
        (
            {"SOURCE_PRINCIPAL_ARNS": ",".join(f"{READER}{number:058}" for number in range(25))},
            "the trust policy .* SOURCE_PRINCIPAL_ARNS",
        ),
        (
            {
                "MEMBER_ROLE_POLICY_ARNS": ",".join(
                    f"arn:aws:iam::{{account_id}}:policy/{'p' * 100}{number}" for number in range(12)
                )
            },
            "the session policy for access roles .* MEMBER_ROLE_POLICY_ARNS",
        ),
        (
            {"SOURCE_PRINCIPAL_ARNS": ",".join(f"{READER}{number:042}" for number in range(15))},
            "the session policy for the source account .* SOURCE_PRINCIPAL_ARNS",
        ),
        (
            {
                "SOURCE_POLICY_SCOPE": "organization",
                "EXCLUDE_ACCOUNT_IDS": ",".join(f"{number:012}" for number in range(400)),
            },
            "EXCLUDE_ACCOUNT_IDS holds 400 accounts",
        ),
    ],
)
def test_what_would_not_fit_iam_is_caught_with_the_settings(changes: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        bootstrap.checked_settings(environ(**changes))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_defaults_fit_iam(partition: str) -> None:
    assert bootstrap.checked_settings(environ(partition)) == settings(partition)


def test_the_source_accounts_session_policy_is_none_where_no_access_role_is_needed() -> None:
    many = ",".join(f"arn:aws:iam::{MANAGEMENT}:role/Reader{number:042}" for number in range(15))

    assert bootstrap.checked_settings(environ(SOURCE_PRINCIPAL_ARNS=many)).source_account_id == MANAGEMENT


OURS = {"managed-by": "rolecall", "rolecall-stage": "dev"}


@pytest.mark.parametrize(
    ("tags", "refused", "refused_though_adopting"),
    [
        (OURS, None, None),
        (OURS | {"team": "platform"}, None, None),
        ({}, "was not created by Rolecall", None),
        ({"team": "platform"}, "was not created by Rolecall", None),
        ({"managed-by": "rolecall"}, "(managed-by=rolecall)", "(managed-by=rolecall)"),
        (OURS | {"managed-by": "terraform"}, "managed-by=terraform, rolecall-stage=dev", "managed-by=terraform"),
        (OURS | {"rolecall-stage": "prod"}, "managed-by=rolecall, rolecall-stage=prod", "rolecall-stage=prod"),
    ],
)
def test_what_another_owner_marked_is_refused_and_what_nobody_marked_may_be_adopted(
    tags: dict[str, str], refused: str | None, refused_though_adopting: str | None
) -> None:
    ownership = settings().ownership("arn:x", tags)

    for adopt, expected in ((False, refused), (True, refused_though_adopting)):
        why = ownership.rejection_reason(adopt=adopt, name_parameter="MemberRoleName")
        assert (why is None) == (expected is None)
        assert why is None or ("arn:x" in why and str(expected) in why and "MemberRoleName" in why)
