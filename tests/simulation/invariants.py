"""What must hold once all is quiet and one full resync has run."""

from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import capacity
from tests.simulation.cloud import Cloud, Said, may_change, said_by
from tests.simulation.iam import ATTACHMENTS, Role
from tests.simulation.members import MANAGEMENT, ORGANIZATION_ID
from tests.simulation.stages import SOURCE_POLICY, environ, member_role_arn, settings_of

if TYPE_CHECKING:
    from tests.simulation.changes import Changes


def check_quiet(cloud: Cloud, settings: Settings, answer: Any, changes: "Changes") -> None:
    """Require every invariant; `answer` is that of the last resync."""
    cloud.require("a backfill lets accounts be enrolled again", not cloud.is_stopped)
    rows = cloud.rows()
    for account_id in cloud.members.members:
        row = rows.get(account_id)
        cloud.require(f"the ledger says where every account stands, and not of {account_id}", row is not None)
        _check_account(cloud, settings, account_id, row or {}, ineligible=changes.is_ineligible(account_id))
    _check_source_policy(cloud, settings, rows, changes)
    failing = {
        account_id
        for account_id, row in rows.items()
        if row["outcome"] == "failed" and account_id in cloud.members.members and not changes.is_ineligible(account_id)
    }
    cloud.require(
        f"every failure is visible: {sorted(failing)} of {answer['counts']}",
        sum(answer["counts"]["failing"].values()) == len(failing),
    )
    for row in rows.values():
        reason = row.get("reason")
        told = row["outcome"] == "enrolled" or reason in set(Reason)
        cloud.require(
            f"every failure has a reason, and not {row}", told and (row["outcome"] != "failed" or "error" in row)
        )


def check_uninstalled(cloud: Cloud, settings: Settings, answer: Any) -> None:
    """Require that nothing of ours is left but what is out of reach; `answer` is that of the last uninstall."""
    told = [each["account_id"] for each in answer["accounts"]]
    left = [each for each in told if cloud.is_open(each) or not cloud.is_active(each)]
    cloud.require(f"an uninstall leaves nothing but what will not let it in, as {left}", not left)
    for account_id in cloud.members.members:
        gone = not _is_ours(settings, cloud.iam.role(member_role_arn(account_id)))
        # Whoever leaves the management account out takes the right to change its roles from the functions.
        closed = account_id == MANAGEMENT and not settings.include_management_account
        cloud.require(
            f"an uninstall leaves no role, as in {account_id}", gone or closed or not cloud.is_open(account_id)
        )
        cloud.require(f"an uninstall lets one in nowhere, as in {account_id}", not cloud.lets_in(account_id))
    held = {*cloud.source_policies(), *cloud.shards()}
    # As long as an account is told that something is left in, the source policy stays, and names nobody.
    cloud.require(f"an uninstall leaves no source policy, as {held}", not held or bool(answer["accounts"]))


def _check_account(cloud: Cloud, settings: Settings, account_id: str, row: dict[str, Any], *, ineligible: bool) -> None:
    stands = f"{account_id} stands where it should, and not {row.get('outcome')} {row.get('reason')} {row.get('error')}"
    role = cloud.iam.role(member_role_arn(account_id))
    if ineligible:
        cloud.require(stands, row.get("outcome") in {"skipped", "retired"} and row.get("policy_name") is None)
        if row.get("reason") == "retired_by_request" and cloud.is_open(account_id):
            cloud.require(f"the role of {account_id}, which is retired, is gone", not _is_ours(settings, role))
        return
    if not cloud.is_open(account_id):
        cloud.require(stands, row.get("outcome") == "failed")
    elif role is not None and not may_change(settings, dict(role.tags), role.arn):
        cloud.require(stands, (row.get("outcome"), row.get("reason")) == ("failed", "foreign_role"))
    else:
        cloud.require(stands, row.get("outcome") == "enrolled")
        cloud.require(
            f"the role of {account_id} is the desired one, and not {role}", _is_desired(role, settings, account_id)
        )


def check_room(cloud: Cloud, changes: "Changes") -> None:
    """Require, of every account that is told so, that there is no room."""
    for account_id, row in cloud.rows().items():
        if row.get("reason") == "quota" and not changes.is_ineligible(account_id):
            cloud.require(f"there is no room for {account_id}, as it says", _is_full(cloud))


def _is_full(cloud: Cloud) -> bool:
    """Tell whether a batch of all who aren't named would find no room; such a batch takes in none of them."""
    named = {account_id for shard in cloud.shards().values() for account_id in shard["accounts"]}
    room = capacity(settings_of(environ())) * (ATTACHMENTS - len(cloud.others)) - len(named)
    return cloud.scope == Scope.ACCOUNTS and room < len(cloud.members.known - named)


def _is_ours(settings: Settings, role: Role | None) -> bool:
    return role is not None and settings.owner(dict(role.tags), role.arn).ours


def _is_desired(role: Role | None, settings: Settings, account_id: str) -> bool:
    desired = desired_role(settings, account_id)
    return (
        role is not None
        and Document(role.trust) == desired.trust
        and role.max_session == desired.max_session
        and role.boundary == desired.boundary
        and set(desired.tags.items()) <= role.tags
        and role.attached == desired.attached
        and {name: Document(text) for name, text in role.inline} == desired.inline
    )


def _check_source_policy(cloud: Cloud, settings: Settings, rows: dict[str, dict[str, Any]], changes: "Changes") -> None:
    policies, shards = cloud.source_policies(), cloud.shards()
    cloud.require("the scope is the one that is asked for", cloud.scope in {None, settings.source_policy_scope})
    cloud.require(f"IAM holds the shards of the table: {set(policies)}, {set(shards)}", set(policies) == set(shards))
    for name, policy in policies.items():
        meant = _meant(settings, name, shards[name])
        cloud.require(f"IAM says of {name} what its item says", said_by(policy.document) == meant)
        cloud.require(f"{name} has at most five versions", len(policy.versions) <= 5)
        cloud.require(f"{name} has no version of others'", max(dict(policy.versions)) == policy.default)
        cloud.require(f"{name} is ours", set(settings.ownership_tags.items()) <= policy.tags)
        cloud.require(f"{name} is attached to the reader alone", policy.attached == {cloud.reader})
        cloud.require(
            f"{name} denies everything while it is frozen", shards[name]["frozen"] == ('"Deny"' in policy.document)
        )
    reader = cloud.iam.role(cloud.reader)
    attached = reader.attached if reader else frozenset()
    ours = {policy.arn for policy in policies.values()}
    cloud.require(
        "the reader has the source policy and what others attached, and nothing else", attached == ours | cloud.others
    )
    kept = {account_id for account_id, row in rows.items() if row.get("policy_name") is not None}
    if settings.source_policy_scope is Scope.ORGANIZATION:
        _check_organization(cloud, kept, changes)
        return
    named = [account_id for shard in shards.values() for account_id in shard["accounts"]]
    cloud.require("no account is in two shards", len(named) == len(set(named)))
    cloud.require(
        f"the source policy names exactly the enrolled: {sorted(named)} are named, {sorted(kept)} by the ledger",
        set(named) == kept,
    )


def _meant(settings: Settings, name: str, shard: dict[str, Any]) -> Said:
    if settings.source_policy_scope is Scope.ACCOUNTS:
        return Said(frozenset(shard["accounts"]))
    if name != SOURCE_POLICY:
        return Said(frozenset(shard["accounts"]))
    return Said(organization=ORGANIZATION_ID, but=frozenset(shard["excluded"]) | settings.exclude_account_ids)


def _check_organization(cloud: Cloud, kept: set[str], changes: "Changes") -> None:
    """Who fails may be let in to or not, and who is closed is: neither has anything that could be entered."""
    for account_id in kept | set(cloud.members.members):
        let_in = cloud.lets_in(account_id)
        if account_id in kept:
            cloud.require(f"the organization's source policy lets one in to {account_id}, as the ledger says", let_in)
        elif changes.is_left_out(account_id):
            cloud.require(f"the organization's source policy leaves {account_id} out", not let_in)
