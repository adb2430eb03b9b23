"""What must hold once all is quiet and one full resync has run."""

from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import capacity, document
from chalicelib.source_policy.records import ShardContent
from tests.integration.simulation.cloud import Cloud, may_change
from tests.integration.simulation.iam import ATTACHMENTS, Role
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID
from tests.integration.simulation.stages import environ, member_role_arn, settings_of

LOSSES = ("ledger lost", "shard record lost", "source-policy table lost", "both tables lost", "older ledger put back")
"""What may happen to the tables in an organization's life."""

if TYPE_CHECKING:
    from tests.integration.simulation.changes import Changes


def check_quiet(cloud: Cloud, settings: Settings, answer: Any, changes: "Changes") -> None:
    """Require every invariant; `answer` is that of the last resync."""
    cloud.require("a backfill lets accounts be enrolled again", not cloud.is_uninstalling)
    rows = cloud.rows()
    for account_id in cloud.members.members:
        row = rows.get(account_id)
        cloud.require(f"the ledger has a row for every account, and none for {account_id}", row is not None)
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
        told = row["outcome"] == "enrolled" or row.get("reason") in set(Reason)
        cloud.require(
            f"every failure has a reason, and not {row}", told and (row["outcome"] != "failed" or "error" in row)
        )
    dead = cloud.queues.publish.dead
    cloud.require("no message of publish is given up", not dead)


def check_settled(cloud: Cloud, ways: set[str]) -> None:
    """Require that nothing is left to publish once both queues are empty, whatever the rows say."""
    status, shards = cloud.status(), cloud.shards()
    # What was given up, lost or refused is found by the next resync.
    given_up = cloud.queues.accounts.dead or cloud.queues.publish.dead or ways & {*LOSSES}
    refused = "blocked" in status or any("error" in record for record in shards.values())
    if given_up or refused or cloud.is_uninstalling or cloud.scope != Scope.ACCOUNTS:
        return
    for account_id, row in cloud.rows().items():
        if "access" in row:
            granted = row["access"] == "granted"
            named = account_id in cloud.named
            full = granted and not named and _is_full(cloud)
            cloud.require(f"no row is left to be published, as {account_id}: {row}", full or named is granted)
            in_force = "in_force_since" in row
            cloud.require(f"in_force_since of {account_id} is settled: {row}", in_force is named)


def check_uninstalled(cloud: Cloud, settings: Settings, answer: Any) -> None:
    """Require that nothing of ours is left but what is out of reach; `answer` is that of the last uninstall."""
    told = [each["account_id"] for each in answer["accounts"]]
    left = [each for each in told if cloud.is_open(each) or not cloud.is_active(each)]
    cloud.require(f"an uninstall leaves nothing but what can't be entered, as {left}", not left)
    for account_id in cloud.members.members:
        gone = not _is_ours(settings, cloud.iam.role(member_role_arn(account_id)))
        # A stage that leaves the management account out may not change its roles.
        closed = account_id == MANAGEMENT and not settings.include_management_account
        cloud.require(
            f"an uninstall leaves no role, as in {account_id}", gone or closed or not cloud.is_open(account_id)
        )
        cloud.require(f"an uninstall grants no account, as {account_id}", not cloud.grants(account_id))
    held = {*cloud.source_policies(), *cloud.shards()}
    cloud.require(f"an uninstall leaves no source policy, as {held}", not held)
    cloud.require("an uninstall forgets the names", bool(answer["accounts"]) or "names" not in cloud.status())


def _check_account(cloud: Cloud, settings: Settings, account_id: str, row: dict[str, Any], *, ineligible: bool) -> None:
    status = f"{row.get('outcome')} {row.get('reason')} {row.get('access')} {row.get('error')}"
    rule = f"{account_id} has the status that it should have, and not {status}"
    role = cloud.iam.role(member_role_arn(account_id))
    if ineligible:
        cloud.require(rule, row.get("outcome") in {"skipped", "retired"} and row.get("access") in {"excluded", "none"})
        if row.get("reason") == "retired_by_request" and cloud.is_open(account_id):
            cloud.require(f"the role of {account_id}, which is retired, is gone", not _is_ours(settings, role))
        return
    if not cloud.is_open(account_id):
        cloud.require(rule, row.get("outcome") == "failed")
    elif role is not None and not may_change(settings, dict(role.tags), role.arn):
        cloud.require(rule, (row.get("outcome"), row.get("reason")) == ("failed", "foreign_role"))
    elif row.get("reason") != "quota":
        cloud.require(rule, (row.get("outcome"), row.get("access")) == ("enrolled", "granted"))
        cloud.require(
            f"the role of {account_id} is the desired one, and not {role}", _is_desired(role, settings, account_id)
        )


def check_room(cloud: Cloud, changes: "Changes") -> None:
    """Require that an account without room is only there where there is no room."""
    for account_id, row in cloud.rows().items():
        waits = row.get("access") == "granted" and not cloud.grants(account_id)
        if (row.get("reason") == "quota" or waits) and not changes.is_ineligible(account_id):
            cloud.require(f"there is no room for {account_id}, whose reason is quota", _is_full(cloud))


def _is_full(cloud: Cloud) -> bool:
    room = capacity(settings_of(environ())) * (ATTACHMENTS - len(cloud.others))
    return cloud.scope == Scope.ACCOUNTS and len(cloud.named) >= room


def _is_ours(settings: Settings, role: Role | None) -> bool:
    return role is not None and settings.ownership(role.arn, dict(role.tags)).is_ours


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
    policies, shards, control = cloud.source_policies(), cloud.shards(), cloud.control()
    cloud.require("the scope is the one that is asked for", cloud.scope in {None, settings.source_policy_scope})
    cloud.require(f"IAM holds the shards of the table: {set(policies)}, {set(shards)}", set(policies) == set(shards))
    cloud.require("no run of publish holds the lease", "run_owner" not in cloud.status())
    for name, policy in policies.items():
        applied = shards[name].get("applied", {})
        cloud.require(f"{name} is written completely", "applying" not in shards[name] and "error" not in shards[name])
        text = document(settings, _content(applied), ORGANIZATION_ID)
        cloud.require(f"IAM says of {name} what its record says", Document(policy.document) == text)
        cloud.require(f"{name} has at most five versions", len(policy.versions) <= 5)
        cloud.require(f"{name} has no version of others", max(dict(policy.versions)) == policy.default)
        cloud.require(f"{name} is ours", set(settings.ownership_tags.items()) <= policy.tags)
        cloud.require(f"{name} is attached to the source principal alone", policy.attached == {cloud.reader})
        frozen = control.get("frozen", applied["frozen"])
        cloud.require(f"{name} denies everything while it is frozen", frozen == ('"Deny"' in policy.document))
    reader = cloud.iam.role(cloud.reader)
    attached = reader.attached if reader else frozenset()
    ours = {policy.arn for policy in policies.values()}
    cloud.require(
        "the source principal has the source policy and what others attached, and nothing else",
        attached == ours | cloud.others,
    )
    _check_access(cloud, settings, rows, changes)


def _content(applied: dict[str, Any]) -> ShardContent:
    return ShardContent(
        accounts=frozenset(applied["accounts"]),
        excluded=frozenset(applied["excluded"]),
        scope=Scope(applied["scope"]),
        frozen=applied["frozen"],
    )


def _check_access(cloud: Cloud, settings: Settings, rows: dict[str, dict[str, Any]], changes: "Changes") -> None:
    for account_id, row in rows.items():
        granted, in_force = row.get("access") == "granted", "in_force_since" in row
        if settings.source_policy_scope is Scope.ACCOUNTS:
            if granted and not cloud.grants(account_id):
                cloud.require(f"{account_id} is granted, or finds no room", _is_full(cloud) and not in_force)
                continue
            # A failure without a row leaves what was granted before.
            if "access" in row:
                cloud.require(f"IAM grants {account_id} as its row says: {row}", cloud.grants(account_id) is granted)
        elif account_id in cloud.members.members:
            if granted:
                cloud.require(f"the organization's source policy grants {account_id}", cloud.grants(account_id))
            elif changes.is_left_out(account_id):
                cloud.require(f"the organization's source policy excludes {account_id}", not cloud.grants(account_id))
        if "access" in row:
            cloud.require(f"in_force_since of {account_id} is right: {row}", in_force is granted)
    if settings.source_policy_scope is Scope.ACCOUNTS:
        named = [account_id for shard in cloud.shards().values() for account_id in shard["applied"]["accounts"]]
        cloud.require("no account is in two shards", len(named) == len(set(named)))
        cloud.require(f"every account in a shard has a row: {set(named) - set(rows)}", set(named) <= set(rows))
