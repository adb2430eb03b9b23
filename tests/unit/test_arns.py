import pytest

from chalicelib.arns import is_account_id, parse_principal, policy_arn, role_arn, root_arn
from tests.unit.builders import PARTITIONS


@pytest.mark.parametrize("partition", PARTITIONS)
def test_arn_has_the_given_partition(partition: str) -> None:
    assert role_arn(partition, "111122223333", "Reader") == f"arn:{partition}:iam::111122223333:role/Reader"
    assert policy_arn(partition, "111122223333", "Access") == f"arn:{partition}:iam::111122223333:policy/Access"
    assert root_arn(partition, "111122223333") == f"arn:{partition}:iam::111122223333:root"


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize(
    ("resource", "kind", "path", "name"),
    [
        ("role/Reader", "role", "/", "Reader"),
        ("user/jo@example.com", "user", "/", "jo@example.com"),
        ("role/a/b/Reader", "role", "/a/b/", "Reader"),
        ("root", "root", "", ""),
    ],
)
def test_principal_is_parsed(partition: str, resource: str, kind: str, path: str, name: str) -> None:
    arn = f"arn:{partition}:iam::111122223333:{resource}"

    principal = parse_principal(arn)

    assert (principal.arn, principal.partition, principal.account_id) == (arn, partition, "111122223333")
    assert (principal.kind, principal.path, principal.name) == (kind, path, name)
    assert not principal.is_reserved


@pytest.mark.parametrize("region", ["", "eu-west-1/"])
def test_identity_center_role_may_end_with_a_wildcard(region: str) -> None:
    principal = parse_principal(
        f"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/{region}AWSReservedSSO_Reader_*"
    )

    assert principal.is_reserved
    assert principal.name == "AWSReservedSSO_Reader_*"


@pytest.mark.parametrize(
    ("arn", "why"),
    [
        ("", "is not the ARN"),
        ("arn:aws:iam::11112222333:role/Reader", "is not the ARN"),
        ("arn:aws:iam::*:role/Reader", "is not the ARN"),
        ("arn:aws:iam::111122223333:roleReader", "is not the ARN"),
        ("arn:aws:iam::111122223333:rootReader", "is not the ARN"),
        ("arn:aws:iam::111122223333:root/Reader", "is not the ARN"),
        ("arn:aws:iam::111122223333:group/Readers", "is not the ARN"),
        ("arn:aws:iam::111122223333:role/Reader\n", "is not the ARN"),
        ("arn:azure:iam::111122223333:role/Reader", "is not the ARN"),
        ("arn:aws:iam::111122223333:role/", "has no name of a role"),
        ("arn:aws:iam::111122223333:role/path/", "has no name of a role"),
        ("arn:aws:iam::111122223333:role/*", "wildcard"),
        ("arn:aws:iam::111122223333:role/a?/Reader", "wildcard"),
        ("arn:aws:iam::111122223333:role/${aws:username}/Reader", "wildcard"),
        ("arn:aws:iam::111122223333:role/AWSReservedSSO_Reader_*", "wildcard"),
        ("arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_R*_*", "wildcard"),
        ("arn:aws:sts::111122223333:assumed-role/Reader/session", "session"),
        ("arn:aws-cn:sts::111122223333:federated-user/jo", "session"),
    ],
)
def test_invalid_principal_is_rejected_with_the_reason(arn: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_principal(arn)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("012345678901", True),
        ("01234567890", False),
        ("0123456789012", False),
        ("01234567890a", False),
        ("٠١٢٣٤٥٦٧٨٩٠١", False),
        ("012345678901\n", False),
        (112345678901, False),
        (None, False),
    ],
)
def test_account_id_is_a_string_of_twelve_digits(value: object, expected: bool) -> None:
    assert is_account_id(value) is expected
