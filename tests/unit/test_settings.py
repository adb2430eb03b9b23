from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import parse_principal
from chalicelib.checked_settings import checked_settings
from chalicelib.errors import SettingsError
from chalicelib.settings import ENVIRONMENT_LIMIT, Settings, check_environment_size, parameters_with_role
from tests.unit.builders import EXAMPLES, MANAGEMENT, MEMBER, PARTITIONS, READER, SOURCE, environ, settings

SSO = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Reader_*"
USER = f"arn:aws:iam::{SOURCE}:user/jo"
REQUIRED = ["SOURCE_PRINCIPAL_ARNS", "STAGE", "PARTITION", "MANAGEMENT_ACCOUNT_ID"]


def error_of(**changes: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    return str(caught.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_setting_is_read(name: str) -> None:
    text, value = EXAMPLES[name]

    assert getattr(settings(**{name: text}), name.lower()) == value
    assert getattr(settings(), name.lower()) != value


def test_required_settings_are_read() -> None:
    user = "arn:aws-cn:iam::111122223333:user/b"

    config = settings("aws-cn", STAGE="prod-2", SOURCE_PRINCIPAL_ARNS=f"{user}, arn:aws-cn:iam::111122223333:role/a")

    assert (config.stage, config.partition, config.management_account_id) == ("prod-2", "aws-cn", MANAGEMENT)
    assert config.source_principals == (parse_principal(user), parse_principal("arn:aws-cn:iam::111122223333:role/a"))


def test_empty_setting_has_its_default() -> None:
    assert settings(**dict.fromkeys(EXAMPLES, " ")) == settings()


def test_every_optional_setting_has_an_example() -> None:
    required = {"source_principals", "stage", "partition", "management_account_id"}

    assert {name.lower() for name in EXAMPLES} == {field.name for field in fields(Settings)} - required


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_required_setting_is_an_error(name: str, value: str | None) -> None:
    variables = {key: text for key, text in environ().items() if key != name} | ({} if value is None else {name: value})

    with pytest.raises(SettingsError, match=f"^{name} is not set: it must be "):
        Settings.from_env(variables)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("STAGE", "Dev", "lower-case"),
        ("STAGE", "a" * 21, "1 to 20"),
        ("PARTITION", "arn:aws", "aws-us-gov"),
        ("MANAGEMENT_ACCOUNT_ID", "12345", "twelve digits"),
        ("SOURCE_PRINCIPAL_ARNS", "Reader", "ARNs of roles or users"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws:sts::111122223333:assumed-role/Reader/jo", "session"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws-cn:iam::111122223333:role/Reader", "partition"),
        ("MEMBER_ROLE_NAME", "path/Reader", "with no path"),
        ("MEMBER_ROLE_NAME", "R" * 65, "1 to 64"),
        ("MEMBER_ROLE_POLICY_ARNS", "arn:aws-cn:iam::aws:policy/ReadOnlyAccess", "a managed policy's ARN"),
        ("MEMBER_ROLE_POLICY_ARNS", "arn:aws:iam::aws:policy/*", "a managed policy's ARN"),
        ("DENY_DATA_READS", "True", "true or false"),
        ("MEMBER_ROLE_MAX_SESSION", "43201", "from 3600 to 43200"),
        ("MEMBER_ROLE_MAX_SESSION", "3599", "from 3600 to 43200"),
        ("MEMBER_ROLE_MAX_SESSION", "٣٦٠٠", "a whole number"),
        ("MEMBER_ROLE_MAX_SESSION", "9" * 5000, "a whole number"),
        ("PERMISSIONS_BOUNDARY_ARN", "Boundary", "a managed policy's ARN"),
        ("EXTERNAL_ID", "x", "2 to 1224"),
        ("EXTERNAL_ID", "a b", "2 to 1224"),
        ("MEMBER_ROLE_TAGS", "team", "key=value"),
        ("MEMBER_ROLE_TAGS", "=platform", "key=value"),
        ("MEMBER_ROLE_TAGS", "aws:team=platform", "key=value"),
        ("MEMBER_ROLE_TAGS", "k" * 129 + "=v", "key=value"),
        ("MEMBER_ROLE_TAGS", "k=" + "v" * 257, "key=value"),
        ("MEMBER_ROLE_TAGS", "managed-by=me", "ownership tags"),
        ("MEMBER_ROLE_TAGS", "Rolecall-Stage=mine", "ownership tags"),
        ("SOURCE_POLICY_NAME", "a/b", "a policy name"),
        ("SOURCE_POLICY_NAME", "P" * 121, "1 to 120"),
        ("SOURCE_POLICY_SCOPE", "everyone", "accounts, organization or none"),
        ("ACCESS_ROLE_NAMES", "role/Admin", "a role name"),
        ("INCLUDE_OU_IDS", "r-ab12", "an organizational unit's id"),
        ("EXCLUDE_OU_IDS", "Workloads", "an organizational unit's id"),
        ("EXCLUDE_ACCOUNT_IDS", "1234", "twelve digits"),
        ("INCLUDE_TAGS", "prod", "key=value"),
        ("INCLUDE_TAGS", "=prod", "key=value"),
        ("INCLUDE_TAGS", "env=pr*", "key=value"),
        ("INCLUDE_TAGS", "*=prod", "key=value"),
        ("EXCLUDE_TAGS", "k" * 129 + "=v", "key=value"),
        ("EXCLUDE_TAGS", "k=" + "v" * 257, "key=value"),
        ("EXCLUDE_TAGS", "env=a;b", "key=value"),
        ("DENY_DATA_READS_EXCEPT", "s3:GetObjct", "such as s3:GetObject"),
        ("READY_GRACE_SECONDS", "10801", "from 0 to 10800"),
        ("MAX_RETIRED_PERCENT", "101", "from 0 to 100"),
        ("ROLLOUT_PERCENT", "0", "from 1 to 100"),
        ("THREADS", "0", "from 1 to 64"),
    ],
)
def test_invalid_setting_is_reported_with_value_and_expectation(name: str, value: str, expected: str) -> None:
    message = error_of(**{name: value})

    assert message.startswith(f"{name} ")
    assert repr(value) in message
    assert expected in message
    assert "must be " in message


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("EXCLUDE_ACCOUNT_IDS", MEMBER),
        ("ACCESS_ROLE_NAMES", "Admin"),
        ("SOURCE_PRINCIPAL_ARNS", READER),
        ("INCLUDE_OU_IDS", "ou-ab12-11111111"),
        ("EXCLUDE_TAGS", "env=prod"),
    ],
)
def test_invalid_part_of_a_list_is_reported(name: str, valid: str) -> None:
    assert error_of(**{name: f"{valid},b*d"}).startswith(f"{name} contains 'b*d'")
    assert error_of(**{name: f"{valid},,"}).startswith(f"{name} contains ''")


def test_principals_of_two_accounts_are_rejected() -> None:
    message = error_of(SOURCE_PRINCIPAL_ARNS=f"{READER},arn:aws:iam::444455556666:role/Reader")

    assert message.startswith("SOURCE_PRINCIPAL_ARNS contains principals of 2 accounts (111122223333, 444455556666)")
    assert "deploy a second stage for the other account, or set SOURCE_POLICY_SCOPE=none" in message


def test_principals_of_any_accounts_are_accepted_without_a_source_policy() -> None:
    outside, root = "arn:aws:iam::444455556666:role/Reader", "arn:aws:iam::555566667777:root"
    used = settings(SOURCE_PRINCIPAL_ARNS=f"{READER},{outside},{root}", SOURCE_POLICY_SCOPE="none")

    assert used.source_account_ids == (SOURCE, "444455556666", "555566667777")
    assert (used.keeps_source_policy, used.attachable_principals) == (False, ())
    with pytest.raises(ValueError, match="scope none has no source policy"):
        _ = used.source_account_id
    beside = f"{outside},arn:aws:iam::444455556666:root"
    assert "must be the only one" in error_of(SOURCE_PRINCIPAL_ARNS=beside, SOURCE_POLICY_SCOPE="none")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"SOURCE_POLICY_SCOPE": "none"}, (SOURCE,)),
        ({"SOURCE_POLICY_SCOPE": "none", "EXTERNAL_ID": "example"}, ()),
        ({"SOURCE_POLICY_SCOPE": "none", "MANAGEMENT_ACCOUNT_ID": SOURCE}, ()),
        ({}, (SOURCE,)),
    ],
)
def test_accounts_need_an_external_id_unless_they_are_members(
    changes: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert settings(**changes).accounts_that_must_be_members == expected


def test_role_of_identity_center_needs_no_setting_without_a_source_policy() -> None:
    arn = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_*"
    assert settings(SOURCE_PRINCIPAL_ARNS=arn, SOURCE_POLICY_SCOPE="none").attachable_principals == ()


def test_accounts_are_selected_by_a_few_tags() -> None:
    """A message contains the account's tags of all keys."""
    tags = [f"key{number}=*" for number in range(11)]

    assert len(settings(INCLUDE_TAGS=",".join(tags[:10]), EXCLUDE_TAGS=tags[10]).tag_keys) == 11
    assert error_of(INCLUDE_TAGS=",".join(tags)) == "INCLUDE_TAGS contains 11 tags: it must be at most 10"


def test_root_must_be_the_only_principal() -> None:
    root = f"arn:aws:iam::{SOURCE}:root"

    assert settings(SOURCE_PRINCIPAL_ARNS=root).source_principals == (parse_principal(root),)
    assert "must be the only one" in error_of(SOURCE_PRINCIPAL_ARNS=f"{READER},{root}")


@pytest.mark.parametrize(
    ("arn", "name", "parameters"),
    [
        (READER, "Reader", ["SourcePrincipalArns"]),
        (READER, "rEADER", ["SourcePrincipalArns"]),
        (f"arn:aws:iam::{SOURCE}:role/team/Reader", "Reader", ["SourcePrincipalArns"]),
        (SSO, "AWSReservedSSO_Reader_0123456789abcdef", ["SourcePrincipalArns"]),
        (READER, "organizationaccountaccessrole", ["AccessRoleNames"]),
        (f"{READER},arn:aws:iam::{SOURCE}:role/AWSControlTowerExecution", "AWSControlTowerExecution", None),
        (READER, "Readers", []),
        (USER, "jo", []),
    ],
)
def test_role_is_found_in_parameters_whatever_its_case(arn: str, name: str, parameters: list[str] | None) -> None:
    config = settings(SOURCE_PRINCIPAL_ARNS=arn, ATTACH_SOURCE_POLICY="false")

    found = list(parameters_with_role(name, config.source_principals, config.access_role_names))

    assert found == (["SourcePrincipalArns", "AccessRoleNames"] if parameters is None else parameters)


@pytest.mark.parametrize(
    ("names", "role"),
    [("rolecall-dev-access,Admin", "rolecall-dev-access"), ("rolecall-prod-access", None), ("Admin", None)],
)
def test_stack_sets_role_is_known_by_the_stages_name(names: str, role: str | None) -> None:
    assert settings(ACCESS_ROLE_NAMES=names).stack_set_role == role


def test_all_invalid_settings_are_reported_at_once() -> None:
    wrong = {
        "STAGE": "Dev",
        "SOURCE_PRINCIPAL_ARNS": f"{READER},Reader",
        "MEMBER_ROLE_NAME": "R" * 65,
        "MEMBER_ROLE_TAGS": "team,team=a,Team=b",
        "SOURCE_POLICY_SCOPE": "everyone",
        "THREADS": "x",
    }

    with pytest.raises(SettingsError) as caught:
        settings(**wrong)

    named = [problem.split()[0] for problem in caught.value.problems]
    assert sorted(named) == sorted([*wrong, "MEMBER_ROLE_TAGS"])
    assert str(caught.value) == "; ".join(caught.value.problems)


def test_identity_center_role_requires_attach_false() -> None:
    message = error_of(SOURCE_PRINCIPAL_ARNS=SSO)

    assert message.startswith("ATTACH_SOURCE_POLICY is 'true': it must be false")
    assert "permission set" in message
    assert settings(SOURCE_PRINCIPAL_ARNS=SSO, ATTACH_SOURCE_POLICY="false").attachable_principals == ()


@pytest.mark.parametrize(
    ("arns", "attach", "attachable"),
    [
        (f"{READER},{USER}", "true", [READER, USER]),
        (f"{READER},{USER}", "false", []),
        (f"arn:aws:iam::{SOURCE}:root", "true", []),
    ],
)
def test_attachable_principals_are_roles_and_users(arns: str, attach: str, attachable: list[str]) -> None:
    config = settings(SOURCE_PRINCIPAL_ARNS=arns, ATTACH_SOURCE_POLICY=attach)

    assert [principal.arn for principal in config.attachable_principals] == attachable


def test_tags_are_at_most_48_with_distinct_keys() -> None:
    most = ",".join(f"key{number}=value" for number in range(48))

    assert len(settings(MEMBER_ROLE_TAGS=most).member_role_tags) == 48
    assert "contains 49 tags: it must be at most 48" in error_of(MEMBER_ROLE_TAGS=f"{most},one=more")
    assert "is there twice" in error_of(MEMBER_ROLE_TAGS="team=a,Team=b")


@given(name=st.sampled_from(sorted({*environ(), *EXAMPLES})), value=st.text())
def test_any_value_is_read_or_rejected_by_name(name: str, value: str) -> None:
    try:
        message = settings(**{name: value}) and ""
    except SettingsError as error:
        message = str(error)

    # With another PARTITION, SOURCE_PRINCIPAL_ARNS is wrong, too.
    assert not message or message.startswith((name, "SOURCE_PRINCIPAL_ARNS"))


def test_environment_size_is_in_bytes_of_names_and_values() -> None:
    fits = {"A": "x" * 1000, "LONG": "é" * ((ENVIRONMENT_LIMIT - 1005) // 2)}

    check_environment_size(fits | {"": "x" * ((ENVIRONMENT_LIMIT - 1005) % 2)})
    with pytest.raises(SettingsError, match=r"take 4097 bytes .* allows 4096: shorten LONG, which takes 3094"):
        check_environment_size(fits | {"": "xx"})


def test_byte_that_is_not_utf8_is_counted_and_rejected() -> None:
    with pytest.raises(SettingsError, match=r"take 4097 bytes .* shorten LONG"):
        check_environment_size({"LONG": "\udcff" * 4093})
    assert error_of(EXTERNAL_ID="\udcff\udcff").startswith(r"EXTERNAL_ID is '\udcff\udcff'")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"EXTERNAL_ID": "x" * 1224, "SOURCE_PRINCIPAL_ARNS": f"{READER}{'r' * 500}"},
            "the trust policy .* EXTERNAL_ID",
        ),
        (
            {"SOURCE_PRINCIPAL_ARNS": ",".join(f"{READER}{number:042}" for number in range(15))},
            "the session policy .* SOURCE_PRINCIPAL_ARNS",
        ),
        (
            {
                "SOURCE_POLICY_SCOPE": "organization",
                "EXCLUDE_ACCOUNT_IDS": ",".join(f"{number:012}" for number in range(400)),
            },
            "EXCLUDE_ACCOUNT_IDS contains 400 accounts",
        ),
    ],
)
def test_checked_settings_rejects_what_exceeds_an_iam_limit(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        checked_settings(environ(**changes))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_checked_settings_accepts_the_defaults(partition: str) -> None:
    assert checked_settings(environ(partition)) == settings(partition)


OURS = {"managed-by": "rolecall", "rolecall-stage": "dev"}


@pytest.mark.parametrize(
    ("tags", "rejections"),
    [
        (OURS, (None, None, None)),
        (OURS | {"team": "platform"}, (None, None, None)),
        ({"team": "platform"}, ("was not created by Rolecall", None, None)),
        ({"managed-by": "rolecall"}, ("(managed-by=rolecall)",) * 3),
        (OURS | {"managed-by": "terraform"}, ("managed-by=terraform, rolecall-stage=dev",) * 3),
        (OURS | {"rolecall-stage": "prod"}, ("managed-by=rolecall, rolecall-stage=prod",) * 3),
        ({"aws:cloudformation:stack-name": "Readers"}, ("was not created by Rolecall", None, None)),
        ({"managed-by": "team"}, ("(managed-by=team)", "the tag managed-by=team", None)),
        ({"Managed_By": "Team", "a": "b"}, ("was not created by Rolecall", "the tag Managed_By=Team", None)),
        ({"Terraform": "true"}, ("was not created by Rolecall", "the tag Terraform=true", None)),
        ({"CreatedBy": "AWS CDK"}, ("was not created by Rolecall", "the tag CreatedBy=AWS CDK", None)),
    ],
)
def test_role_of_another_program_is_adopted_by_account_id_only(
    tags: dict[str, str], rejections: tuple[str | None, ...]
) -> None:
    ownership = settings().ownership("arn:x", tags)

    for adopting, expected in zip(("false", "true", MEMBER), rejections, strict=True):
        config = settings(ADOPT_EXISTING_ROLES=adopting)
        adopt, by_id = config.adopts(MEMBER), config.adopts_by_id(MEMBER)
        reason = ownership.rejection_reason(adopt=adopt, by_id=by_id, name_parameter="MemberRoleName")
        assert (reason is None) == (expected is None)
        assert reason is None or ("arn:x" in reason and str(expected) in reason and "MemberRoleName" in reason)


@pytest.mark.parametrize(
    ("value", "adopted"), [("false", set()), ("true", {MEMBER, SOURCE}), (MEMBER, {MEMBER}), (SOURCE, {SOURCE})]
)
def test_roles_are_adopted_everywhere_or_in_named_accounts(value: str, adopted: set[str]) -> None:
    config = settings(ADOPT_EXISTING_ROLES=value)

    assert {account_id for account_id in (MEMBER, SOURCE) if config.adopts(account_id)} == adopted
