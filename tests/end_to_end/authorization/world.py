"""A world: an organization's accounts, two stages, principals with permissions of their own, and what they request."""

from dataclasses import dataclass, field
from enum import StrEnum

MANAGEMENT, SOURCE, MEMBER, LAST = "111122223333", "222233334444", "444455556666", "999999999998"
"""The organization's accounts; the last shard contains LAST."""

OUTSIDE, ELSEWHERE = "555566667777", "666677778888"
"""Accounts in no organization and in another one."""

MEMBER_ROLES = ("Audit", "Audit2")
"""The name of each stage's member role, and of its source policy; one begins with the other."""

UNITS = ("ou-ab12-11111111", "ou-ab12-22222222")
ENVIRONMENTS = ("prod", "dev")
"""The values of the accounts' tag env."""

SINGLE_SIGN_ON = "aws-reserved/sso.amazonaws.com/"


class Record(StrEnum):
    """What a stage knows about an account."""

    NONE = "no row, or only failures"
    RECONCILED = "reconciled"
    RETIRED = "retired by request"


class Membership(StrEnum):
    """Whether an account is in the organization; one that departed late did so after the source policy was written."""

    MEMBER = "member"
    DEPARTED = "departed"
    DEPARTED_LATE = "departed late"


class Permission(StrEnum):
    """What a principal's own policies allow it, on any resource."""

    NONE = "nothing"
    ASSUME = "sts:AssumeRole"
    STS = "sts:*"
    ADMINISTRATOR = "*"
    FUNCTION = "what a function of Rolecall may do"


class Limit(StrEnum):
    """What else limits a principal."""

    NONE = "nothing"
    OPEN_BOUNDARY = "a permissions boundary that allows everything"
    CLOSED_BOUNDARY = "a permissions boundary that allows nothing of IAM and STS"
    DENY = "a policy that denies sts:AssumeRole"


class ExternalId(StrEnum):
    """The external id in a request."""

    ABSENT = ""
    RIGHT = "right"
    OTHER_CASE = "the right one in another case"
    GUESSED = "guessed"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account; its records and its roles are by the number of the stage.

    `roles` are the paths of the roles of the member roles' names, None without a role. A role can be left in any account.
    """

    id: str
    membership: Membership
    units: frozenset[str]
    env: str | None
    records: tuple[Record, Record]
    roles: tuple[str | None, str | None]


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A role or user; `attached` are the numbers of the stages whose source policy an operator attached to it."""

    account_id: str
    name: str
    kind: str = "role"
    path: str = ""
    own: Permission = Permission.NONE
    limit: Limit = Limit.NONE
    attached: frozenset[int] = frozenset()

    @property
    def resource(self) -> str:
        """The end of its ARN."""
        return f"{self.kind}/{self.path}{self.name}"

    @property
    def named(self) -> str:
        """The end of the ARN by which settings name it: that of a role of IAM Identity Center has no fixed suffix."""
        return self.resource.rpartition("_")[0] + "_*" if self.path == SINGLE_SIGN_ON else self.resource


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage's settings, and whether it is frozen; `sources` are the ends of the source principals' ARNs.

    `excluded_env` and `included_env` are the values of the tag env by which accounts are selected, `*` for any.
    `others` is the number of further accounts that it has enrolled. Without a source policy (scope none), there can be
    source principals in other accounts, too: `elsewhere` are the accounts and the ends of the ARNs.
    """

    number: int
    source_account: str
    sources: tuple[str, ...]
    whole_organization: bool
    external_id: str
    excluded_accounts: frozenset[str]
    excluded_units: frozenset[str]
    included_units: frozenset[str]
    excluded_env: str | None
    included_env: str | None
    includes_management: bool
    attaches: bool
    frozen: bool
    others: int
    keeps_source_policy: bool = True
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def member_role(self) -> str:
        """The name of the member role and of the source policy."""
        return MEMBER_ROLES[self.number]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request of a principal about the member role of a stage: to assume it, or to read it with IAM."""

    stage: int
    reads: bool = False
    external_id: ExternalId = ExternalId.RIGHT
    tags: bool = False
    identity: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """Whether a principal may do what it requests in an account."""

    principal: Principal
    account: Account
    request: Request


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that authorization depends on, and some questions about it."""

    partition: str
    stages: tuple[Stage, Stage]
    accounts: tuple[Account, ...]
    principals: tuple[Principal, ...]
    questions: tuple[Question, ...] = field(repr=False)

    def external_id(self, request: Request) -> str | None:
        """Return the external id that a request contains, if any."""
        expected = self.stages[request.stage].external_id
        match request.external_id:
            case ExternalId.ABSENT:
                return None
            case ExternalId.GUESSED:
                return "guessed"
            case ExternalId.OTHER_CASE:
                return expected.swapcase() or None
            case ExternalId.RIGHT:
                return expected or None
