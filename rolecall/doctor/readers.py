"""Whether the source principals are there, and have room for the source policy; and whether IAM takes the documents."""

from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase

from chalicelib.arns import Principal
from chalicelib.errors import Reason, SettingsError
from chalicelib.member_role import check_sizes, trust_document
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import Records
from rolecall.doctor.finding import Check, Finding, cant_tell, ok, wrong
from rolecall.doctor.patient import Patient
from rolecall.reasons import REMEDY

_ROLE_NAME_QUOTA = 64  # "IAM and AWS STS quotas"
_RESERVED = "/aws-reserved/sso.amazonaws.com/"


def judge_principals(settings: Settings, found: Collection[str], deploy: str) -> Finding:
    """Judge by the ARNs that IAM has in the source account, which is this one."""
    for principal in settings.source_principals:
        if principal.kind != "root" and not any(fnmatchcase(arn, principal.arn) for arn in found):
            return wrong(
                f"there is no {principal.arn}, so nobody reads as it",
                f"aws iam create-{principal.kind} --{principal.kind}-name {principal.name} …, or {deploy}",
            )
    return ok(_listed(principal.arn for principal in settings.source_principals))


def judge_principals_elsewhere(settings: Settings, records: Records) -> Finding:
    """Judge by what publish, which may read the source account, has recorded."""
    source = settings.source_account_id
    problem = records.status.principals if records.status else None
    if problem is not None:
        return wrong(f"publish can't attach in the source account {source}: {problem.error}", REMEDY[problem.reason])
    attached = frozenset[str]().union(*(record.attached for record in records.shards))
    if attached.issuperset(principal.arn for principal in settings.attachable_principals) and attached:
        return ok(
            f"{_listed(sorted(attached))}: publish attached the source policy there, in the source account {source}"
        )
    return cant_tell(
        f"these credentials can't read the source account {source}",
        f"aws iam get-role --role-name {settings.source_principals[0].name or '…'}, with credentials of account {source}",
    )


def _principals(patient: Patient) -> Finding:
    settings = patient.settings
    if settings.source_account_id != patient.account_id:
        return judge_principals_elsewhere(settings, patient.records)
    found = {arn for principal in settings.source_principals for arn in _arns(patient, principal)}
    return judge_principals(settings, found, patient.deploy("SourcePrincipalArns=…"))


def _arns(patient: Patient, principal: Principal) -> Iterator[str]:
    """Look a source principal up; one whose name has a wildcard among all that IAM Identity Center has made."""
    iam = patient.stage.client("iam")
    if principal.kind == "root":
        return
    if "*" in principal.name:
        for page in iam.get_paginator("list_roles").paginate(PathPrefix=_RESERVED):
            yield from (role["Arn"] for role in page["Roles"])
        return
    try:
        if principal.kind == "role":
            yield iam.get_role(RoleName=principal.name)["Role"]["Arn"]
        else:
            yield iam.get_user(UserName=principal.name)["User"]["Arn"]
    except iam.exceptions.NoSuchEntityException:
        return


def judge_attachments(
    principal: Principal, attached: Collection[str], shards: Collection[str], quota: int, settings: Settings
) -> Finding:
    """Judge whether a source principal has the shards that were written, and room for those that are to come.

    `shards` are their names: where none is written yet, the first is to come.
    """
    told = f"{len(attached)} of {quota} policies are attached to {principal.name}"
    missing = [name for name in shards if name not in attached]
    if missing and quota - len(attached) < len(missing):
        return wrong(
            f"{told}, and {', '.join(missing)} has no room",
            f"aws iam detach-{principal.kind}-policy --{principal.kind}-name {principal.name} --policy-arn …, or have its quota raised",
        )
    room = quota - len(attached) - len(missing)
    return ok(f"{told}, and {room} more shards of {capacity(settings)} accounts fit")


def _attachments(patient: Patient) -> Finding:
    settings, shards = patient.settings, patient.records.shards
    if settings.source_account_id != patient.account_id:
        return judge_room_elsewhere(settings, patient.records)
    names = [shard.name for shard in shards if shard.versions] or [settings.source_policy_name]
    findings = []
    for principal in settings.source_principals:
        if principal.kind == "root":
            continue
        attached = _attached(patient, principal)
        if attached is None:
            return cant_tell(f"there is no {principal.arn} to attach to", patient.deploy("SourcePrincipalArns=…"))
        quota = patient.account_summary[f"AttachedPoliciesPer{principal.kind.title()}Quota"]
        findings.append(judge_attachments(principal, attached, names, quota, settings))
        missing = [shard.name for shard in shards if shard.versions and shard.name not in attached]
        if missing and findings[-1].mend is None:
            findings.append(_unattached(principal, missing, patient))
    bad = [finding for finding in findings if finding.mend is not None]
    return (bad or findings or [ok("an account's root has no quota of its own")])[0]


def _unattached(principal: Principal, missing: list[str], patient: Patient) -> Finding:
    saw = f"{', '.join(missing)} is not attached to {principal.name}, which so reaches none of its accounts"
    if patient.settings.attach_source_policy:
        return wrong(saw, patient.aws(f"lambda invoke --function-name {patient.stage.function('resync')} /dev/stdout"))
    arn = f"arn:{patient.partition}:iam::{patient.account_id}:policy/{missing[0]}"
    return wrong(
        saw, f"aws iam attach-{principal.kind}-policy --{principal.kind}-name {principal.name} --policy-arn {arn}"
    )


def judge_room_elsewhere(settings: Settings, records: Records) -> Finding:
    """Judge whether the source principals have room, by what publish has recorded."""
    source, status = settings.source_account_id, records.status
    if status is None or status.looked_at is None:
        return cant_tell(f"publish has not read the source account {source} yet", "rolecall resync")
    if status.blocked and status.blocked.reason is Reason.QUOTA:
        return wrong(f"the source account {source}: {status.blocked.error}", REMEDY[Reason.QUOTA])
    written = sum(bool(record.versions) for record in records.shards)
    return ok(f"{written} of {status.room} shards that fit in the source account {source} are written")


def _attached(patient: Patient, principal: Principal) -> list[str] | None:
    iam = patient.stage.client("iam")
    operation = f"list_attached_{principal.kind}_policies"
    try:
        pages = list(iam.get_paginator(operation).paginate(**{f"{principal.kind.title()}Name": principal.name}))
    except iam.exceptions.NoSuchEntityException:
        return None
    return [policy["PolicyName"] for page in pages for policy in page["AttachedPolicies"]]


def judge_sizes(settings: Settings, trust_quota: int, deploy: str) -> Finding:
    """Judge the member role's name, and the documents, against IAM's quotas."""
    name, trust = settings.member_role_name, trust_document(settings).size
    try:
        check_sizes(settings)
    except SettingsError as error:
        return wrong(str(error), deploy)
    if trust > trust_quota:
        return wrong(
            f"the trust policy takes {trust} of {trust_quota} characters", f"{deploy}: set fewer SourcePrincipalArns"
        )
    return ok(f"role name {len(name)} of {_ROLE_NAME_QUOTA} characters, trust policy {trust} of {trust_quota}")


def _sizes(patient: Patient) -> Finding:
    return judge_sizes(patient.settings, patient.account_summary["AssumeRolePolicySizeQuota"], patient.deploy("…"))


def _listed(arns: Iterable[str]) -> str:
    return ", ".join(arns)


CHECKS = (
    Check(
        name="source principals",
        look=_principals,
        permissions=("iam:GetRole", "iam:GetUser", "iam:ListRoles", "dynamodb:Scan"),
    ),
    Check(
        name="attachments",
        look=_attachments,
        permissions=(
            *("iam:ListAttachedRolePolicies", "iam:ListAttachedUserPolicies", "iam:GetAccountSummary"),
            "dynamodb:Scan",
        ),
    ),
    Check(name="sizes", look=_sizes, permissions=("iam:GetAccountSummary",)),
)
