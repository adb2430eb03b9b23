"""Environments: parsed, with everything derived from them within AWS's limits, or rejected by the name of a setting."""

import os
from dataclasses import fields, replace
from typing import Any

from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.checked_settings import checked_settings
from chalicelib.errors import SettingsError
from chalicelib.member_role import INLINE_LIMIT, TRUST_LIMIT, desired_role, plan
from chalicelib.session_policies import SESSION_POLICY_LIMIT, member_role_write
from chalicelib.settings import _DEFAULTS, Scope, Settings, check_environment_size
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import POLICY_LIMIT, capacity, document
from chalicelib.source_policy.records import MAX_SHARDS
from tests.integration.fuzzing.target import Target
from tests.integration.simulation.environment import POLICIES, SETTINGS, environ
from tests.integration.simulation.example_stages import ExampleStages
from tests.integration.simulation.members import IDS

_NAMES = {*environ(), *(field.name.upper() for field in fields(Settings))}


def _run(_: ExampleStages, content: Any) -> None:
    if not isinstance(content, dict):
        return
    given = {name: value for name, value in content.items() if isinstance(value, str) and _is_possible(name + value)}
    variables = environ() | given
    rejection = ""
    try:
        check_environment_size(variables)
        settings = checked_settings(variables)
    except SettingsError as error:
        rejection = str(error)
    if rejection:
        assert any(name in rejection for name in _NAMES | given.keys()), rejection
        return
    role = desired_role(settings, settings.management_account_id)
    assert role.trust.size <= TRUST_LIMIT
    assert sum(each.size for each in role.inline.values()) <= INLINE_LIMIT
    assert member_role_write(settings, settings.management_account_id).size <= SESSION_POLICY_LIMIT
    assert plan(role, role) == ()
    most = capacity(settings)
    assert most > 0
    account_ids = [AccountId(f"{number:012}") for number in range(1, most + len(IDS))]
    for scope, access in ((Scope.ACCOUNTS, Access.GRANTED), (Scope.ORGANIZATION, Access.EXCLUDED)):
        rows = {Access.GRANTED: account_ids} | {access: account_ids}
        contents = assign((), rows, settings, scope=scope, max_shards=MAX_SHARDS).contents
        frozen = [document(settings, replace(each, frozen=True), "o-" + 32 * "x") for each in contents]
        assert all(each.size <= POLICY_LIMIT for each in frozen)


def _is_possible(text: str) -> bool:
    """Whether Linux can pass it: without NUL, and with no surrogates but those that Python decodes from bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _seeds() -> list[Any]:
    readers = "arn:aws:iam::444455556666:role/path/Reader,arn:aws:iam::444455556666:user/Reader"
    sso = "arn:aws:iam::444455556666:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Read_*"
    boundary = "arn:{partition}:iam::{account_id}:policy/Boundary"
    return [
        environ(),
        *SETTINGS,
        dict(_DEFAULTS),
        {"SOURCE_POLICY_SCOPE": "organization", "EXCLUDE_ACCOUNT_IDS": ",".join(IDS), "THREADS": "64"},
        {"SOURCE_PRINCIPAL_ARNS": "arn:aws:iam::111122223333:root", "MEMBER_ROLE_TAGS": "a=b,c=d:e"},
        {"SOURCE_PRINCIPAL_ARNS": readers},
        {"SOURCE_PRINCIPAL_ARNS": sso, "ATTACH_SOURCE_POLICY": "false"},
        {"PARTITION": "aws-us-gov", "SOURCE_PRINCIPAL_ARNS": "arn:aws-us-gov:iam::111122223333:role/Reader"},
        {"PERMISSIONS_BOUNDARY_ARN": boundary, "INCLUDE_OU_IDS": "ou-ab12-11111111"},
        {"MEMBER_ROLE_POLICIES": POLICIES, "DENY_DATA_READS_EXCEPT": "s3:GetObject,ssm:GetParameter"},
        {"INCLUDE_TAGS": "env=prod,team=*", "EXCLUDE_TAGS": "aws:note=a=b"},
        {"ACCESS_ROLE_NAMES": "", "MEMBER_ROLE_NAME": "a" * 64, "SOURCE_POLICY_NAME": "b" * 120},
    ]


SETTINGS_TARGET = Target(
    "settings",
    _run,
    _seeds,
    words=(
        *sorted(_NAMES),
        *"a-,*?$=:/",
        *("true", "false", "999999999", "arn:aws:iam::aws:policy/A", "a=b", "\udcff"),
        *("arn:aws:sts::111122223333:assumed-role/a/b", "a," * 999, "/!" * 900, "aws-" * 300, "x" * 1224),
    ),
)
