"""What is written to IAM in a world: Rolecall's documents, from its own code, and those of other administrators."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chalicelib import accounts as rolecall
from chalicelib.accounts import Access, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.member_role import desired_role
from chalicelib.settings import Settings
from chalicelib.source_policy.assignment import assign
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import MAX_SHARDS, ShardContent, shard_name
from tests.end_to_end.authorization.world import (
    MANAGEMENT,
    Account,
    Limit,
    Membership,
    Permission,
    Principal,
    Question,
    Record,
    Stage,
    World,
)

Document = Mapping[str, Any]
FunctionPolicies = Callable[[str], Mapping[str, Document]]
"""Returns the policies of the functions' roles in a partition, by the function's name."""

Change = Callable[[str, Document], Document]
"""Changes a document, given its kind: "source policy" or "trust"."""


def unchanged(_kind: str, document: Document) -> Document:
    """Return a document as Rolecall writes it."""
    return document


def _allow(action: str, effect: str = "Allow") -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": "*"}]}


@dataclass(frozen=True, kw_only=True)
class Held:
    """A principal's policies: the shards attached to it, those of its own, and its permissions boundary."""

    source_policies: dict[str, Document]
    own: tuple[Document, ...]
    boundary: dict[str, Document]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The policies of each principal, and the trust policy of each role by its ARN."""

    principals: Mapping[Principal, Held]
    trusts: Mapping[str, Document]


def principal_arn(world: World, principal: Principal) -> str:
    return f"arn:{world.partition}:iam::{principal.account_id}:{principal.resource}"


def role_arn(world: World, question: Question) -> str:
    """Return the ARN of the role that a question is about; without such a role, the ARN that it would have."""
    return _role_arn(world, question.account, world.stages[question.request.stage])


def _role_arn(world: World, account: Account, stage: Stage) -> str:
    return f"arn:{world.partition}:iam::{account.id}:role/{account.roles[stage.number] or ''}{stage.member_role}"


def written(world: World, organization_id: str, functions: FunctionPolicies, change: Change = unchanged) -> Written:
    """Build everything, with a change to each of Rolecall's documents."""
    settings = [_settings(world, stage) for stage in world.stages]
    shards = [
        {name: change("source policy", each) for name, each in _shards(world, stage, of, organization_id)}
        for stage, of in zip(world.stages, settings, strict=True)
    ]
    trusts = [change("trust", desired_role(each, MANAGEMENT).trust.content) for each in settings]

    def attached(principal: Principal) -> Iterator[tuple[str, Document]]:
        for stage in world.stages:
            by_rolecall = {each.arn for each in settings[stage.number].attachable_principals}
            by_operator = stage.number in principal.attached and principal.account_id == stage.source_account
            if by_operator or principal_arn(world, principal) in by_rolecall:
                yield from shards[stage.number].items()

    return Written(
        principals={
            each: Held(
                source_policies=dict(attached(each)),
                own=tuple(_own(each, functions(world.partition))),
                boundary=_BOUNDARIES.get(each.limit, {}),
            )
            for each in world.principals
        },
        trusts={
            _role_arn(world, account, stage): trusts[stage.number]
            for account in world.accounts
            for stage in world.stages
            if account.roles[stage.number] is not None
        },
    )


_BOUNDARIES = {Limit.OPEN_BOUNDARY: {"open": _allow("*")}, Limit.CLOSED_BOUNDARY: {"closed": _allow("s3:*")}}


def _own(principal: Principal, functions: Mapping[str, Document]) -> Iterator[Document]:
    if principal.own is Permission.FUNCTION:
        yield functions[principal.name.removeprefix("rolecall-")]
    elif principal.own is not Permission.NONE:
        yield _allow(principal.own.value)
    if principal.limit is Limit.DENY:
        yield _allow("sts:AssumeRole", "Deny")


def _settings(world: World, stage: Stage) -> Settings:
    source = f"arn:{world.partition}:iam::{stage.source_account}"
    elsewhere = [f"arn:{world.partition}:iam::{account_id}:{each}" for account_id, each in stage.elsewhere]
    scope = "organization" if stage.whole_organization else "accounts"
    return Settings.from_env(
        {
            "STAGE": f"stage{stage.number}",
            "PARTITION": world.partition,
            "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
            "SOURCE_PRINCIPAL_ARNS": ",".join([*(f"{source}:{each}" for each in stage.sources), *elsewhere]),
            "MEMBER_ROLE_NAME": stage.member_role,
            "SOURCE_POLICY_NAME": stage.member_role,
            "SOURCE_POLICY_SCOPE": scope if stage.keeps_source_policy else "none",
            "EXTERNAL_ID": stage.external_id,
            "EXCLUDE_ACCOUNT_IDS": ",".join(sorted(stage.excluded_accounts)),
            "EXCLUDE_OU_IDS": ",".join(sorted(stage.excluded_units)),
            "INCLUDE_OU_IDS": ",".join(sorted(stage.included_units)),
            "EXCLUDE_TAGS": f"env={stage.excluded_env}" if stage.excluded_env else "",
            "INCLUDE_TAGS": f"env={stage.included_env}" if stage.included_env else "",
            "INCLUDE_MANAGEMENT_ACCOUNT": str(stage.includes_management).lower(),
            "ATTACH_SOURCE_POLICY": str(stage.attaches).lower(),
        }
    )


def _shards(world: World, stage: Stage, settings: Settings, organization_id: str) -> Iterator[tuple[str, Document]]:
    """Yield the shards as publish writes them: once with every account that was ever granted, and then as it is now."""
    if not stage.keeps_source_policy:
        return
    others = {AccountId(f"3{number:011}") for number in range(stage.others)}
    known = [each for each in world.accounts if each.records[stage.number] is not Record.NONE]
    rows: dict[Access, set[AccountId]] = {access: set() for access in Access}
    for account in known:
        rows[_access(settings, account, account.records[stage.number])].add(AccountId(account.id))
    rows[Access.GRANTED] |= others
    contents: tuple[ShardContent, ...] = ()
    for each in ({Access.GRANTED: others | {AccountId(account.id) for account in known}}, rows):
        scope = settings.source_policy_scope
        contents = assign(contents, each, settings, scope=scope, max_shards=MAX_SHARDS).contents
    for index, content in enumerate(contents):
        shard = replace(content, frozen=stage.frozen)
        yield shard_name(settings.source_policy_name, index), document(settings, shard, organization_id).content


def _access(settings: Settings, account: Account, record: Record) -> Access:
    """Return the access in the account's row."""
    described = None
    if account.membership is not Membership.DEPARTED:
        units = tuple(sorted(account.units))
        described = rolecall.Account(
            id=AccountId(account.id), name="", state="ACTIVE", joined_at=None, ou_ids=units, tags={"env": account.env}
        )
    row = LedgerRow(
        account_id=AccountId(account.id),
        outcome=Outcome.ENROLLED,
        retirement_requested_at="2026-01-01T00:00:00+00:00" if record is Record.RETIRED else None,
        updated_at="2026-01-01T00:00:00+00:00",
    )
    return rolecall.access_for(described, rolecall.why_ineligible(described, row, settings))
