"""Checks that the source principals exist and have room for the source policy, and that the documents fit IAM's quotas."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from chalicelib.arns import Principal
from chalicelib.aws.source_principals import attachment_quota
from chalicelib.errors import Reason, SettingsError
from chalicelib.member_role import check_sizes, trust_document, why_external_id
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import Records
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok, unknown
from rolecall.principals import principal_arns
from rolecall.reasons import REMEDY

_ROLE_NAME_QUOTA = 64  # "IAM and AWS STS quotas"


def check_principals(principals: Collection[Principal], found: Collection[str], redeploy: str) -> CheckResult:
    """Check that source principals of this account are among the ARNs that were found in it."""
    for principal in principals:
        if principal.kind != "root" and not any(fnmatchcase(arn, principal.arn) for arn in found):
            return failed(
                f"source principal {principal.arn} does not exist",
                f"aws iam create-{principal.kind} --{principal.kind}-name {principal.name} …, or {redeploy}",
            )
    return ok(", ".join(principal.arn for principal in principals))


def check_principals_elsewhere(settings: Settings, records: Records) -> CheckResult:
    """Check the source principals of another account by what publish, which may read that account, has recorded."""
    source = settings.source_account_id
    problem = records.status.principals if records.status else None
    if problem is not None:
        return failed(f"publish can't attach in the source account {source}: {problem.error}", REMEDY[problem.reason])
    attached = frozenset[str]().union(*(record.attached for record in records.shards))
    if attached.issuperset(principal.arn for principal in settings.attachable_principals) and attached:
        return ok(f"{', '.join(sorted(attached))}: attached by publish in the source account {source}")
    return unknown(
        f"these credentials can't read the source account {source}",
        f"aws iam get-role --role-name {settings.source_principals[0].name or '…'}, with credentials of account {source}",
    )


def _check_principals(context: Context) -> CheckResult:
    settings = context.settings
    if not settings.keeps_source_policy:
        return _check_principals_of_any_account(context)
    if settings.source_account_id != context.account_id:
        return check_principals_elsewhere(settings, context.records)
    found = _found_here(context, settings.source_principals)
    return check_principals(settings.source_principals, found, context.deploy("--source-principal ARN"))


def _check_principals_of_any_account(context: Context) -> CheckResult:
    """Check the principals of this account, and that other accounts are members or need an external id."""
    settings = context.settings
    here = [principal for principal in settings.source_principals if principal.account_id == context.account_id]
    result = check_principals(here, _found_here(context, here), context.deploy("--source-principal ARN"))
    if here and result.remedy is not None:
        return result
    outside = [
        account_id
        for account_id in settings.source_account_ids
        if account_id != context.account_id and context.stage.account(account_id) is None
    ]
    return check_source_accounts(settings, outside, context.deploy("ExternalId=…"))


def check_source_accounts(settings: Settings, outside: Collection[str], redeploy: str) -> CheckResult:
    """Check that there is an external id, if source accounts are outside of the organization."""
    if outside and settings.external_id is None:
        return failed(why_external_id(min(outside)), redeploy)
    principals = ", ".join(principal.arn for principal in settings.source_principals)
    return ok(f"{principals}; outside of the organization: {', '.join(sorted(outside)) or 'none'}")


def _found_here(context: Context, principals: Iterable[Principal]) -> set[str]:
    iam = context.stage.client("iam")
    named = (principal for principal in principals if principal.kind != "root")
    return {arn for principal in named for arn in principal_arns(principal, iam)}


def check_attachments(
    principal: Principal, attached: Collection[str], shards: Collection[str], quota: int, settings: Settings
) -> CheckResult:
    """Check that a source principal has room for the named shards that are not attached to it."""
    summary = f"{len(attached)} of {quota} policies are attached to {principal.name}"
    missing = [name for name in shards if name not in attached]
    if missing and quota - len(attached) < len(missing):
        return failed(
            f"{summary}: no room for {', '.join(missing)}",
            f"aws iam detach-{principal.kind}-policy --{principal.kind}-name {principal.name} --policy-arn …, or request a "
            "quota increase",
        )
    room = quota - len(attached) - len(missing)
    return ok(f"{summary}; {room} more shards of {capacity(settings)} accounts fit")


def _check_attachments(context: Context) -> CheckResult:
    settings, shards = context.settings, context.records.shards
    if not settings.keeps_source_policy:
        return ok("nothing is attached: SourcePolicyScope is none")
    if settings.source_account_id != context.account_id:
        return check_room_elsewhere(settings, context.records)
    # Before the first shard is written, it needs room.
    names = [shard.name for shard in shards if shard.versions] or [settings.source_policy_name]
    results = []
    for principal in settings.source_principals:
        if principal.kind == "root":
            continue
        attached = _attached(context, principal)
        if attached is None:
            return unknown(f"source principal {principal.arn} does not exist", context.deploy("--source-principal ARN"))
        quota = attachment_quota(context.account_summary, principal.kind)
        results.append(check_attachments(principal, attached, names, quota, settings))
        missing = [shard.name for shard in shards if shard.versions and shard.name not in attached]
        if missing and results[-1].remedy is None:
            results.append(_unattached(principal, missing, context))
    bad = [result for result in results if result.remedy is not None]
    return (bad or results or [ok("an account's root has no quota of attached policies")])[0]


def _unattached(principal: Principal, missing: list[str], context: Context) -> CheckResult:
    summary = f"{', '.join(missing)} is not attached to {principal.name}, which has no access to its accounts"
    if context.settings.attach_source_policy:
        resync = context.stage.resource_name("resync")
        return failed(summary, context.aws(f"lambda invoke --function-name {resync} --cli-read-timeout 0 /dev/stdout"))
    arn = f"arn:{context.partition}:iam::{context.account_id}:policy/{missing[0]}"
    return failed(
        summary, f"aws iam attach-{principal.kind}-policy --{principal.kind}-name {principal.name} --policy-arn {arn}"
    )


def check_room_elsewhere(settings: Settings, records: Records) -> CheckResult:
    """Check the room of source principals in another account by what publish has recorded."""
    source, status = settings.source_account_id, records.status
    if status is None or status.looked_at is None:
        return unknown(f"publish has not read the source account {source} yet", "rolecall resync")
    if status.blocked and status.blocked.reason is Reason.QUOTA:
        return failed(f"the source account {source}: {status.blocked.error}", REMEDY[Reason.QUOTA])
    written = sum(bool(record.versions) for record in records.shards)
    return ok(f"{written} of {status.room} shards that fit in the source account {source} are written")


def _attached(context: Context, principal: Principal) -> list[str] | None:
    """Return the names of the policies that are attached to a source principal, or None if it does not exist."""
    iam = context.stage.client("iam")
    try:
        if principal.kind == "role":
            roles = iam.get_paginator("list_attached_role_policies").paginate(RoleName=principal.name)
            return [policy["PolicyName"] for page in roles for policy in page["AttachedPolicies"]]
        users = iam.get_paginator("list_attached_user_policies").paginate(UserName=principal.name)
        return [policy["PolicyName"] for page in users for policy in page["AttachedPolicies"]]
    except iam.exceptions.NoSuchEntityException:
        return None


def check_quotas(settings: Settings, trust_quota: int, redeploy: str) -> CheckResult:
    """Check the member role's name and the documents against IAM's quotas."""
    name, trust = settings.member_role_name, trust_document(settings).size
    try:
        check_sizes(settings)
    except SettingsError as error:
        return failed(str(error), redeploy)
    if trust > trust_quota:
        return failed(
            f"the trust policy takes {trust} of {trust_quota} characters", f"{redeploy}: set fewer SourcePrincipalArns"
        )
    return ok(f"role name {len(name)} of {_ROLE_NAME_QUOTA} characters, trust policy {trust} of {trust_quota}")


def _check_quotas(context: Context) -> CheckResult:
    quota = context.account_summary["AssumeRolePolicySizeQuota"]
    return check_quotas(context.settings, quota, context.deploy("--set NAME=VALUE"))


CHECKS = (
    Check(
        name="source principals",
        run=_check_principals,
        permissions=(
            *("iam:GetRole", "iam:GetUser", "iam:ListRoles"),
            *("dynamodb:Scan", "organizations:DescribeAccount"),
        ),
    ),
    Check(
        name="attachments",
        run=_check_attachments,
        permissions=(
            *("iam:ListAttachedRolePolicies", "iam:ListAttachedUserPolicies", "iam:GetAccountSummary"),
            "dynamodb:Scan",
        ),
    ),
    Check(name="sizes", run=_check_quotas, permissions=("iam:GetAccountSummary",)),
)
