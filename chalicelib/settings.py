"""The deployment's settings, read from the environment and validated."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import NamedTuple, TypeAlias, TypeVar

from chalicelib.arns import AccountId, Principal, is_account_id, is_ou_id, parse_principal
from chalicelib.data_read_denies import API_KEYS_READ, DENIED_DATA_READS
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role_policies import DocumentError, parse_policies
from chalicelib.ownership import MANAGED_BY_TAG, STAGE_TAG, Ownership, ownership_tags

ENVIRONMENT_LIMIT = 4096
"""Bytes of all of a function's environment variables together ("Lambda quotas")."""

_DEFAULTS = {
    "MEMBER_ROLE_NAME": "CrossAccountReadOnlyRole",
    "MEMBER_ROLE_POLICY_ARNS": "arn:{partition}:iam::aws:policy/ReadOnlyAccess",
    "DENY_DATA_READS": "true",
    "MEMBER_ROLE_MAX_SESSION": "3600",
    "ATTACH_SOURCE_POLICY": "true",
    "SOURCE_POLICY_NAME": "CrossAccountReadOnlyAccess",
    "SOURCE_POLICY_SCOPE": "accounts",
    "ACCESS_ROLE_NAMES": "OrganizationAccountAccessRole,AWSControlTowerExecution",
    "INCLUDE_MANAGEMENT_ACCOUNT": "true",
    "ADOPT_EXISTING_ROLES": "false",
    "READY_GRACE_SECONDS": "1800",
    "MAX_RETIRED_PERCENT": "20",
    "ROLLOUT_PERCENT": "100",
    "THREADS": "10",
}

_NAME = re.compile(r"[\w+=,.@-]+", re.ASCII)
_STAGE = re.compile(r"[a-z][a-z0-9-]{0,19}")
_PARTITION = re.compile(r"aws(-[a-z]+)*")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")
_MAX_ACCOUNT_TAGS = 10
_MANAGED_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\w+=,.@/-]+", re.ASCII)


class Scope(StrEnum):
    """What the source policy grants access to: exactly the enrolled accounts, or the whole organization.

    In scope none there is no source policy: the source principals' own administrators allow them to assume the member
    roles.
    """

    ACCOUNTS = "accounts"
    ORGANIZATION = "organization"
    NONE = "none"


class AccountTag(NamedTuple):
    """A tag by which accounts are selected; a value of None means any."""

    key: str
    value: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The operator's settings, and the partition and account of the deployment."""

    stage: str
    partition: str
    management_account_id: AccountId
    source_principals: tuple[Principal, ...]
    member_role_name: str
    member_role_policy_arns: tuple[str, ...]
    member_role_policies: Mapping[str, Document]
    deny_data_reads: bool
    deny_data_reads_except: frozenset[str]
    member_role_max_session: int
    permissions_boundary_arn: str | None
    external_id: str | None
    member_role_tags: Mapping[str, str]
    attach_source_policy: bool
    source_policy_name: str
    source_policy_scope: Scope
    access_role_names: tuple[str, ...]
    include_ou_ids: frozenset[str]
    exclude_ou_ids: frozenset[str]
    include_tags: frozenset[AccountTag]
    exclude_tags: frozenset[AccountTag]
    exclude_account_ids: frozenset[str]
    include_management_account: bool
    adopt_existing_roles: bool | frozenset[AccountId]
    ready_grace_seconds: int
    max_retired_percent: int
    rollout_percent: int
    threads: int

    @property
    def keeps_source_policy(self) -> bool:
        """Whether there is a source policy; without one, a member role's trust alone is what Rolecall grants."""
        return self.source_policy_scope is not Scope.NONE

    @property
    def source_account_id(self) -> AccountId:
        """The one account that the source policy and all source principals are in. Raise ValueError in scope none."""
        if not self.keeps_source_policy:
            message = "scope none has no source policy, and so no account that it is in"
            raise ValueError(message)
        return self.source_principals[0].account_id

    @property
    def source_account_ids(self) -> tuple[AccountId, ...]:
        """The accounts of the source principals, each once; in scope none there may be several."""
        return tuple(dict.fromkeys(principal.account_id for principal in self.source_principals))

    @property
    def accounts_that_must_be_members(self) -> tuple[AccountId, ...]:
        """The source accounts that must be members of the organization, because there is no external id.

        Only in scope none are roles created for accounts outside. In the other scopes there may be roles from before
        the scope was changed, or the account left.
        """
        if self.external_id is not None:
            return ()
        return tuple(each for each in self.source_account_ids if each != self.management_account_id)

    @property
    def attachable_principals(self) -> tuple[Principal, ...]:
        """The source principals that Rolecall attaches the source policy to; nothing can be attached to an account's root."""
        if not (self.attach_source_policy and self.keeps_source_policy):
            return ()
        return tuple(principal for principal in self.source_principals if principal.kind != "root")

    def denies(self, action: str) -> bool:
        """Whether the member role denies a data read of the deny list."""
        return self.deny_data_reads and action not in self.deny_data_reads_except

    @property
    def names_ous(self) -> bool:
        """Whether the settings select accounts by organizational unit."""
        return bool(self.include_ou_ids or self.exclude_ou_ids)

    def adopts(self, account_id: str) -> bool:
        """Whether an existing role of an account may be adopted."""
        return self.adopt_existing_roles is True or self.adopts_by_id(account_id)

    def adopts_by_id(self, account_id: str) -> bool:
        """Whether AdoptExistingRoles names an account."""
        return isinstance(self.adopt_existing_roles, frozenset) and account_id in self.adopt_existing_roles

    @property
    def tag_keys(self) -> frozenset[str]:
        """The keys of the tags by which the settings select accounts; empty if they select by none."""
        return frozenset(tag.key for tag in self.include_tags | self.exclude_tags)

    @property
    def stack_set_role(self) -> str | None:
        """The access role that the stage's StackSet creates in every account, or None without a StackSet."""
        name = stack_set_role_name(self.stage)
        return name if name in self.access_role_names else None

    @property
    def ownership_tags(self) -> dict[str, str]:
        """The two tags that mark a role or policy as this stage's."""
        return ownership_tags(self.stage)

    def ownership(self, arn: str, tags: Mapping[str, str]) -> Ownership:
        """Return who owns a role or policy, by its tags."""
        return Ownership.of(arn, self.stage, tags)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and validate every setting; raise SettingsError with everything that is wrong."""
        read = _Variables(environ)
        partition = read.matching("PARTITION", _PARTITION, "a partition, such as aws, aws-us-gov, aws-cn or aws-eusc")
        scope = read.choice("SOURCE_POLICY_SCOPE", Scope, Scope.ACCOUNTS)
        principals = _principals(read, partition, scope)
        settings = cls(
            stage=read.matching("STAGE", _STAGE, "1 to 20 lower-case letters, digits and hyphens, a letter first"),
            partition=partition,
            management_account_id=AccountId(read.one("MANAGEMENT_ACCOUNT_ID", _account_id)),
            source_principals=principals,
            member_role_name=read.one("MEMBER_ROLE_NAME", _role_name),
            member_role_policy_arns=read.each("MEMBER_ROLE_POLICY_ARNS", _managed_policy(partition)),
            member_role_policies=_member_role_policies(read),
            deny_data_reads=read.boolean("DENY_DATA_READS"),
            deny_data_reads_except=frozenset(read.each("DENY_DATA_READS_EXCEPT", _denied_read)),
            member_role_max_session=read.integer("MEMBER_ROLE_MAX_SESSION", 3600, 43200),
            permissions_boundary_arn=read.optional("PERMISSIONS_BOUNDARY_ARN", _managed_policy(partition)),
            external_id=read.optional("EXTERNAL_ID", _external_id),
            member_role_tags=_tags(read),
            attach_source_policy=_attach(read, principals, scope),
            source_policy_name=read.one("SOURCE_POLICY_NAME", _policy_name),
            source_policy_scope=scope,
            access_role_names=read.each("ACCESS_ROLE_NAMES", _role_name),
            include_ou_ids=frozenset(read.each("INCLUDE_OU_IDS", _ou_id)),
            exclude_ou_ids=frozenset(read.each("EXCLUDE_OU_IDS", _ou_id)),
            include_tags=_account_tags(read, "INCLUDE_TAGS"),
            exclude_tags=_account_tags(read, "EXCLUDE_TAGS"),
            exclude_account_ids=frozenset(read.each("EXCLUDE_ACCOUNT_IDS", _account_id)),
            include_management_account=read.boolean("INCLUDE_MANAGEMENT_ACCOUNT"),
            adopt_existing_roles=_adopting(read),
            # The queue's receive count allows for more than three hours (.chalice/resources.yaml).
            ready_grace_seconds=read.integer("READY_GRACE_SECONDS", 0, 10800),
            max_retired_percent=read.integer("MAX_RETIRED_PERCENT", 0, 100),
            rollout_percent=read.integer("ROLLOUT_PERCENT", 1, 100),
            threads=read.integer("THREADS", 1, 64),
        )
        if read.problems:
            raise SettingsError(*read.problems)
        return settings


def stack_set_role_name(stage: str) -> str:
    """Return the name of a stage's StackSet and of the access role that it creates (.chalice/resources.yaml)."""
    return f"rolecall-{stage}-access"


def parameters_with_role(
    name: str, source_principals: Iterable[Principal], access_role_names: Iterable[str]
) -> Iterator[str]:
    """Yield the parameters that contain a role of this name, which then can't be the member role; IAM ignores the case of names."""
    if any(each.kind == "role" and fnmatchcase(name.lower(), each.name.lower()) for each in source_principals):
        yield "SourcePrincipalArns"
    if name.lower() in map(str.lower, access_role_names):
        yield "AccessRoleNames"


def check_environment_size(environ: Mapping[str, str]) -> None:
    """Raise SettingsError, with the longest variable, if all together exceed Lambda's limit."""
    # Python represents bytes that are no text as surrogates.
    sizes = {name: len((name + value).encode("utf-8", "surrogateescape")) for name, value in environ.items()}
    total = sum(sizes.values())
    if total > ENVIRONMENT_LIMIT:
        longest = max(sizes, key=lambda name: sizes[name])
        message = (
            f"the environment variables take {total} bytes together, and Lambda allows {ENVIRONMENT_LIMIT}: "
            f"shorten {longest}, which takes {sizes[longest]}"
        )
        raise SettingsError(message)


_Choice = TypeVar("_Choice", bound=StrEnum)
_Check: TypeAlias = Callable[[str], str | None]
"""Returns what a value must be, or None if it is valid."""


class _Variables:
    """The environment's values, with defaults; an empty string means not set. What is wrong is added to `problems`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip() or _DEFAULTS.get(name, "")

    def reject(self, name: str, expected: str) -> None:
        value = self.text(name)
        found = f"{name} is {value!r}" if value else f"{name} is not set"
        self.problems.append(f"{found}: it must be {expected}")

    def one(self, name: str, check: _Check) -> str:
        value = self.text(name)
        expected = check(value)
        if expected is not None:
            self.reject(name, expected)
        return value

    def optional(self, name: str, check: _Check) -> str | None:
        return self.one(name, check) if self.text(name) else None

    def matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        return self.one(name, lambda value: None if pattern.fullmatch(value) else expected)

    def each(self, name: str, check: _Check) -> tuple[str, ...]:
        """Return the valid parts of a list, each once."""
        valid: dict[str, None] = {}
        for value in [part.strip() for part in self.text(name).split(",")] if self.text(name) else []:
            expected = check(value)
            if expected is None:
                valid[value] = None
            else:
                self.problems.append(f"{name} contains {value!r}: each of its comma-separated parts must be {expected}")
        return tuple(valid)

    def boolean(self, name: str) -> bool:
        value = self.one(name, lambda text: None if text in {"true", "false"} else "true or false")
        return value == "true"

    def choice(self, name: str, values: type[_Choice], fallback: _Choice) -> _Choice:
        """Return one of the values of an enumeration, or the fallback if the variable is none of them."""
        *others, last = values
        value = self.one(name, lambda text: None if text in set(values) else f"{', '.join(others)} or {last}")
        return values(value) if value in set(values) else fallback

    def integer(self, name: str, least: int, most: int) -> int:
        def fits(text: str) -> bool:
            return re.fullmatch(r"[0-9]{1,9}", text) is not None and least <= int(text) <= most

        expected = f"a whole number from {least} to {most}"
        value = self.one(name, lambda text: None if fits(text) else expected)
        return int(value) if fits(value) else least


def _principals(read: _Variables, partition: str, scope: Scope) -> tuple[Principal, ...]:
    name = "SOURCE_PRINCIPAL_ARNS"
    of = "of any account" if scope is Scope.NONE else "all of one account"
    expected = f"ARNs of roles or users, comma-separated, {of}, such as arn:{partition}:iam::111122223333:role/Reader"
    if not read.text(name):
        read.reject(name, expected)
    principals = []
    for arn in read.each(name, lambda value: None if value else expected):
        try:
            principal = parse_principal(arn)
        except ValueError as error:
            read.problems.append(f"{name} contains {arn!r}, which {error}: it must be {expected}")
            continue
        if principal.partition != partition:
            read.problems.append(f"{name} contains {arn!r}, which is not of this partition: it must be {expected}")
        principals.append(principal)
    accounts = sorted({principal.account_id for principal in principals})
    if len(accounts) > 1 and scope is not Scope.NONE:
        read.problems.append(
            f"{name} contains principals of {len(accounts)} accounts ({', '.join(accounts)}): it must be {expected}; deploy a second "
            "stage for the other account, or set SOURCE_POLICY_SCOPE=none, in which Rolecall writes no source policy"
        )
    whole = {principal.account_id for principal in principals if principal.kind == "root"}
    if any(principal.account_id in whole and principal.kind != "root" for principal in principals):
        read.problems.append(
            f"{name} contains an account's root beside others of the account: root already means any principal that the account "
            "delegates to, so it must be the only one"
        )
    return tuple(principals)


def _attach(read: _Variables, principals: tuple[Principal, ...], scope: Scope) -> bool:
    attach = read.boolean("ATTACH_SOURCE_POLICY")
    if attach and scope is not Scope.NONE and any(principal.is_reserved for principal in principals):
        read.reject(
            "ATTACH_SOURCE_POLICY",
            "false, since SOURCE_PRINCIPAL_ARNS names a role of IAM Identity Center (/aws-reserved/), which no policy "
            "can be attached to; add the source policy to its permission set as a customer-managed policy instead",
        )
    return attach


def _adopting(read: _Variables) -> bool | frozenset[AccountId]:
    name = "ADOPT_EXISTING_ROLES"
    if read.text(name) in {"true", "false"}:
        return read.text(name) == "true"
    return frozenset(map(AccountId, read.each(name, _adopted)))


def _adopted(value: str) -> str | None:
    return None if is_account_id(value) else "an account id of twelve digits, unless it is true or false alone"


def _tags(read: _Variables) -> dict[str, str]:
    name = "MEMBER_ROLE_TAGS"
    tags: dict[str, str] = {}
    for pair in read.each(name, _tag):
        key, _, value = pair.partition("=")
        if key.lower() in map(str.lower, tags):
            read.problems.append(f"{name} contains {pair!r}: the key {key!r} is there twice")
        tags[key] = value
    most = 48  # Of the 50 tags that a role may carry, two are the ownership tags.
    if len(tags) > most:
        read.problems.append(f"{name} contains {len(tags)} tags: it must be at most {most}")
    return tags


def _tag(value: str) -> str | None:
    key, equals, text = value.partition("=")
    if not (equals and _is_tag(key, text)) or key.lower().startswith("aws:"):
        return "key=value, of the characters that IAM allows in tags"
    if key.lower() in {MANAGED_BY_TAG, STAGE_TAG}:  # IAM ignores the case of keys
        return f"a tag other than {MANAGED_BY_TAG} and {STAGE_TAG}, which are Rolecall's ownership tags"
    return None


def _account_tags(read: _Variables, name: str) -> frozenset[AccountTag]:
    parts = [part.partition("=") for part in read.each(name, _account_tag)]
    # The messages of a sweep contain the account's tags of all these keys.
    if len(parts) > _MAX_ACCOUNT_TAGS:
        read.problems.append(f"{name} contains {len(parts)} tags: it must be at most {_MAX_ACCOUNT_TAGS}")
    return frozenset(AccountTag(key, None if value == "*" else value) for key, _, value in parts)


def _account_tag(value: str) -> str | None:
    # AWS sets tags of the keys that begin with aws:, which accounts can be selected by, too.
    key, equals, text = value.partition("=")
    fits = equals and _is_tag(key, "" if text == "*" else text)
    return None if fits else "key=value, or key=* for any value, of the characters that Organizations allows in tags"


def _is_tag(key: str, value: str) -> bool:
    """Whether a tag is one by the quotas and characters of IAM and Organizations, which are the same."""
    return 1 <= len(key) <= 128 and len(value) <= 256 and _TAG_TEXT.fullmatch(key + value) is not None  # noqa: PLR2004


def _role_name(value: str) -> str | None:
    fits = _NAME.fullmatch(value) and len(value) <= 64  # noqa: PLR2004 - IAM's quota
    return None if fits else "a role name: 1 to 64 letters, digits and +=,.@_-, with no path"


def _policy_name(value: str) -> str | None:
    # IAM allows 128; the shards after the first carry a suffix.
    fits = _NAME.fullmatch(value) and len(value) <= 120  # noqa: PLR2004
    return None if fits else "a policy name: 1 to 120 letters, digits and +=,.@_-, with no path"


def _managed_policy(partition: str) -> _Check:
    def check(value: str) -> str | None:
        filled = value.replace("{partition}", partition).replace("{account_id}", "111122223333")
        if _MANAGED_POLICY.fullmatch(filled) and filled.startswith(f"arn:{partition}:"):
            return None
        return (
            f"a managed policy's ARN, such as arn:{{partition}}:iam::aws:policy/ReadOnlyAccess or "
            f"arn:{partition}:iam::{{account_id}}:policy/Name"
        )

    return check


def _member_role_policies(read: _Variables) -> dict[str, Document]:
    name = "MEMBER_ROLE_POLICIES"
    try:
        return parse_policies(read.text(name)) if read.text(name) else {}
    except DocumentError as error:
        read.problems.append(f"{name} {error}")
        return {}


def _denied_read(value: str) -> str | None:
    denied = [*DENIED_DATA_READS, API_KEYS_READ]
    if value in denied:
        return None
    nearest = max(denied, key=lambda action: _same_letters(action.lower(), value.lower()))
    return f"an action that DENY_DATA_READS denies, as written in its list, such as {nearest}"


def _same_letters(one: str, other: str) -> int:
    """Return how many letters two words begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _account_id(value: str) -> str | None:
    return None if is_account_id(value) else "an account id of twelve digits"


def _ou_id(value: str) -> str | None:
    return None if is_ou_id(value) else "an organizational unit's id, such as ou-ab12-11111111"


def _external_id(value: str) -> str | None:
    return None if _EXTERNAL_ID.fullmatch(value) else "2 to 1224 letters, digits and +=,.@:/_-"
