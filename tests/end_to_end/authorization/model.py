"""The model of authorization: who may assume the member role in which account, from what the documents mean.

It evaluates no policy and imports nothing of Rolecall.
"""

from tests.end_to_end.authorization.world import (
    MANAGEMENT,
    Account,
    Limit,
    Membership,
    Permission,
    Principal,
    Record,
    Request,
    Stage,
    World,
)

_FIND_ROLES = ("rolecall-enroll", "rolecall-retire")
"""The functions that find member roles of any name in their account, to delete those of a former name."""


def may(principal: Principal, account: Account, world: World, request: Request) -> bool:
    """Whether a principal may do what it requests with the member role of a stage in an account."""
    stage = world.stages[request.stage]
    if request.reads:
        may_read = principal.own is Permission.ADMINISTRATOR or principal.name in _FIND_ROLES
        return principal.account_id == account.id and may_read and principal.limit is not Limit.CLOSED_BOUNDARY
    return (
        account.roles[stage.number] is not None
        and _is_trusted(principal, stage)
        and stage.external_id in {"", world.external_id(request)}
        and (_is_granted(principal, account, stage) or _has_own_permission(principal, request))
        and principal.limit not in {Limit.CLOSED_BOUNDARY, Limit.DENY}
        and not (stage.frozen and _has_source_policy(principal, stage) and _is_member_role(account, stage))
    )


def _is_trusted(principal: Principal, stage: Stage) -> bool:
    """The member role trusts the source principals, or every principal that a source account delegates to."""
    sources = {(stage.source_account, each) for each in stage.sources} | set(stage.elsewhere)
    return not sources.isdisjoint({(principal.account_id, "root"), (principal.account_id, principal.named)})


def _has_own_permission(principal: Principal, request: Request) -> bool:
    """Its own policies allow it to assume every role, with a source identity or tags if it passes them."""
    needed = {Permission.STS, Permission.ADMINISTRATOR}
    return principal.own in (needed if request.tags or request.identity else needed | {Permission.ASSUME})


def _has_source_policy(principal: Principal, stage: Stage) -> bool:
    """The source policy is attached: by Rolecall to source principals, and by operators to principals of its account."""
    if principal.account_id != stage.source_account or not stage.keeps_source_policy:
        return False
    return (stage.attaches and principal.named in stage.sources) or stage.number in principal.attached


def _is_granted(principal: Principal, account: Account, stage: Stage) -> bool:
    """The source policy allows what source principals need, on the member role of accounts of the organization."""
    if account.membership is not Membership.MEMBER or not _is_member_role(account, stage):
        return False
    return _has_source_policy(principal, stage) and (
        _is_known_as(account, stage, eligible=True)
        if not stage.whole_organization
        else not (account.id in stage.excluded_accounts or _is_known_as(account, stage, eligible=False))
    )


def _is_member_role(account: Account, stage: Stage) -> bool:
    """A role of the same name with a path is another role."""
    return account.roles[stage.number] == ""


def _is_known_as(account: Account, stage: Stage, *, eligible: bool) -> bool:
    """The stage has reconciled the account, and found that it should, or should not, be enrolled."""
    record = account.records[stage.number]
    is_eligible = record is not Record.RETIRED and _is_selected(account, stage)
    return record is not Record.NONE and is_eligible == eligible


def _is_selected(account: Account, stage: Stage) -> bool:
    """The settings exclude accounts, units and tags, and may include only some; exclusion takes precedence."""
    if account.id in stage.excluded_accounts or account.units & stage.excluded_units:
        return False
    if account.id == MANAGEMENT and not stage.includes_management:
        return False
    if account.env is not None and stage.excluded_env in {"*", account.env}:
        return False
    if stage.included_env is not None and (account.env is None or stage.included_env not in {"*", account.env}):
        return False
    return not stage.included_units or bool(account.units & stage.included_units)
