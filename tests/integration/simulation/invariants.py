"""Invariants that hold once all functions have ended, and once a full resync has run without faults."""

from itertools import groupby
from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import capacity, document
from chalicelib.source_policy.records import ShardContent
from tests.integration.simulation.changes import RESTORED
from tests.integration.simulation.cloud import LOSSES, Cloud
from tests.integration.simulation.environment import environ, member_role_arn, settings_of
from tests.integration.simulation.iam import ATTACHMENTS, VERSIONS, Role, may_change
from tests.integration.simulation.ledger_stream import announcements, required
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID

if TYPE_CHECKING:
    from tests.integration.simulation.causes import Causes


def check_converged(cloud: Cloud, settings: Settings, response: Any, causes: "Causes") -> None:
    """Require every invariant; `response` is that of the last resync."""
    cloud.require("a backfill ends an uninstall", not cloud.is_uninstalling)
    rows = cloud.rows()
    for account_id in cloud.members.members:
        row = rows.get(account_id)
        cloud.require(f"the ledger has a row for every account, and none for {account_id}", row is not None)
        _check_account(cloud, settings, account_id, row or {}, ineligible=causes.is_ineligible(account_id))
    _check_source_policy(cloud, settings)
    if settings.keeps_source_policy:
        _check_access(cloud, settings, rows, causes)
    else:
        _check_roles_as_access(cloud, settings, rows, causes)
    failing = {
        account_id
        for account_id, row in rows.items()
        if row["outcome"] == "failed" and account_id in cloud.members.members and not causes.is_ineligible(account_id)
    }
    counted = sum(response["counts"]["failing"].values())
    cloud.require(f"every failure is counted: {sorted(failing)} of {response['counts']}", counted == len(failing))
    for row in rows.values():
        has_reason = row["outcome"] == "enrolled" or row.get("reason") in set(Reason)
        has_error = row["outcome"] != "failed" or "error" in row
        cloud.require(f"every failure has a reason, and not {row}", has_reason and has_error)
    cloud.require("no message to publish is dead-lettered", not cloud.queues.publish.dead)


def check_nothing_to_publish(cloud: Cloud, conditions: set[str]) -> None:
    """Require that empty queues mean that the source policy grants what the rows do."""
    status, shards = cloud.status(), cloud.shards()
    # The next resync finds what was dead-lettered, lost or rejected.
    dead_lettered = cloud.queues.accounts.dead or cloud.queues.publish.dead
    failed = "blocked" in status or any("error" in record for record in shards.values())
    if (
        dead_lettered
        or failed
        or conditions & {*LOSSES, RESTORED}
        or cloud.is_uninstalling
        or cloud.scope != Scope.ACCOUNTS
    ):
        return
    for account_id, row in cloud.rows().items():
        if "access" in row:
            granted, named = row["access"] == "granted", account_id in cloud.named
            full = granted and not named and _is_full(cloud)
            cloud.require(f"no row is left to be published, as {account_id}: {row}", full or named is granted)
            in_force = "in_force_since" in row
            cloud.require(f"in_force_since of {account_id} is up to date: {row}", in_force is named)


def check_announced(cloud: Cloud) -> None:
    """Require that every change of a shown outcome is announced, in order; the same one may be announced again.

    That happens if a run of publish, or of enroll, writes a row that changed since it was read.
    """
    events = announcements(cloud.stream.records)
    changes = required(cloud.stream.records)
    for account_id in changes.keys() | events.keys():
        shown, found = (
            [state for state, _ in groupby(state for _, state in each.get(account_id, []))]
            for each in (changes, events)
        )
        cloud.require(f"each change of {account_id} is announced in order: {shown}, not {found}", shown == found)


def check_uninstalled(cloud: Cloud, settings: Settings, response: Any) -> None:
    """Require that only what can't be entered is left; `response` is that of the last uninstall."""
    accounts = [each["account_id"] for each in response["accounts"]]
    left = [each for each in accounts if cloud.can_enter(each) or not cloud.is_open(each)]
    cloud.require(f"an uninstall leaves nothing but what can't be entered, as {left}", not left)
    for account_id in cloud.members.members:
        # Roles of the management account are not changed while the settings exclude it.
        excluded = account_id == MANAGEMENT and not settings.include_management_account
        is_left = _is_ours(settings, cloud.iam.role(member_role_arn(account_id)))
        unreachable = excluded or not cloud.can_enter(account_id)
        cloud.require(f"an uninstall leaves no role, as in {account_id}", unreachable or not is_left)
        cloud.require(f"an uninstall grants no account, as {account_id}", not cloud.grants(account_id))
    policies = {*cloud.source_policies(), *cloud.shards()}
    cloud.require(f"an uninstall leaves no source policy, as {policies}", not policies)
    cloud.require("an uninstall forgets the names", bool(accounts) or "names" not in cloud.status())


def check_room(cloud: Cloud, causes: "Causes") -> None:
    """Require that an account fails for lack of room only if there is none."""
    for account_id, row in cloud.rows().items() if causes.has_source_policy else ():
        waits = row.get("access") == "granted" and not cloud.grants(account_id)
        if (row.get("reason") == "quota" or waits) and not causes.is_ineligible(account_id):
            cloud.require(f"there is no room for {account_id}, whose reason is quota", _is_full(cloud))


def _check_account(cloud: Cloud, settings: Settings, account_id: str, row: dict[str, Any], *, ineligible: bool) -> None:
    outcome, reason, access = (row.get(name) for name in ("outcome", "reason", "access"))
    invariant = f"{account_id} has the expected status, and not {outcome} {reason} {access} {row.get('error')}"
    role = cloud.iam.role(member_role_arn(account_id))
    if ineligible:
        cloud.require(invariant, outcome in {"skipped", "retired"} and access in {"excluded", "none"})
        if reason == "retired_by_request" and cloud.can_enter(account_id):
            cloud.require(f"the role of {account_id}, which is retired, is gone", not _is_ours(settings, role))
    elif not cloud.can_enter(account_id):
        cloud.require(invariant, outcome == "failed")
    elif role is not None and not may_change(settings, dict(role.tags), role.arn, role.stack):
        cloud.require(invariant, (outcome, reason) == ("failed", "foreign_role"))
    elif reason != "quota":
        cloud.require(invariant, (outcome, access) == ("enrolled", "granted"))
        is_desired = _is_desired(role, settings, account_id)
        cloud.require(f"the role of {account_id} is the desired one, and not {role}", is_desired)


def _is_full(cloud: Cloud) -> bool:
    room = capacity(settings_of(environ())) * (ATTACHMENTS - len(cloud.other_policies))
    return cloud.scope == Scope.ACCOUNTS and len(cloud.named) >= room


def _is_ours(settings: Settings, role: Role | None) -> bool:
    return role is not None and settings.ownership(role.arn, dict(role.tags)).is_ours


def _is_desired(role: Role | None, settings: Settings, account_id: str) -> bool:
    desired = desired_role(settings, account_id, ORGANIZATION_ID)
    return (
        role is not None
        and Document(role.trust) == desired.trust
        and role.max_session == desired.max_session
        and role.boundary == desired.boundary
        and set(desired.tags.items()) <= role.tags
        and role.attached == desired.attached
        and {name: Document(text) for name, text in role.inline} == desired.inline
    )


def _check_source_policy(cloud: Cloud, settings: Settings) -> None:
    policies, shards, control = cloud.source_policies(), cloud.shards(), cloud.control()
    cloud.require("the scope is the one in the settings", cloud.scope in {None, settings.source_policy_scope})
    cloud.require(f"each shard in IAM has a record: {set(policies)}, {set(shards)}", set(policies) == set(shards))
    cloud.require("no run of publish holds the lease", "run_owner" not in cloud.status())
    for name, policy in policies.items():
        applied = shards[name].get("applied", {})
        cloud.require(f"{name} is written completely", "applying" not in shards[name] and "error" not in shards[name])
        content = ShardContent(
            accounts=frozenset(applied["accounts"]),
            excluded=frozenset(applied["excluded"]),
            scope=Scope(applied["scope"]),
            frozen=applied["frozen"],
        )
        recorded = document(settings, content, ORGANIZATION_ID)
        cloud.require(f"{name} is in IAM as its record shows it", Document(policy.document) == recorded)
        cloud.require(f"{name} has at most five versions", len(policy.versions) <= VERSIONS)
        cloud.require(f"{name} has no version of others", max(dict(policy.versions)) == policy.default)
        cloud.require(f"{name} is ours", set(settings.ownership_tags.items()) <= policy.tags)
        is_attached = policy.attached == {cloud.source_principal}
        cloud.require(f"{name} is attached to the source principal alone", is_attached)
        frozen = control.get("frozen", applied["frozen"])
        cloud.require(f"{name} denies everything during a freeze", frozen == policy.is_frozen)
    role = cloud.iam.role(cloud.source_principal)
    attached = role.attached if role else frozenset()
    expected = {policy.arn for policy in policies.values()} | cloud.other_policies
    cloud.require("the source policy and policies of others are attached, and nothing else", attached == expected)


def _check_roles_as_access(cloud: Cloud, settings: Settings, rows: dict[str, dict[str, Any]], causes: "Causes") -> None:
    """Require that in scope none, granted access is in force, and ineligible accounts have no role."""
    for account_id, row in rows.items():
        is_ours = _is_ours(settings, cloud.iam.role(member_role_arn(account_id)))
        reachable = account_id in cloud.members.members and cloud.can_enter(account_id) and cloud.is_open(account_id)
        # The functions may not change the role of the management account while the settings exclude it.
        reachable = reachable and (account_id != MANAGEMENT or settings.include_management_account)
        granted, in_force = row.get("access") == "granted", "in_force_since" in row
        if reachable and causes.is_ineligible(account_id):
            cloud.require(
                f"the role is the access in scope none, as in {account_id}: {row}", not is_ours and not in_force
            )
        elif row["outcome"] == "enrolled":
            cloud.require(f"in_force_since of {account_id} is right in scope none: {row}", in_force and granted)


def _check_access(cloud: Cloud, settings: Settings, rows: dict[str, dict[str, Any]], causes: "Causes") -> None:
    in_organization = settings.source_policy_scope is Scope.ORGANIZATION
    for account_id, row in rows.items():
        granted, in_force = row.get("access") == "granted", "in_force_since" in row
        is_granted = cloud.grants(account_id)
        if in_organization:
            is_member = account_id in cloud.members.members
            if is_member and granted:
                cloud.require(f"the organization's source policy grants {account_id}", is_granted)
            elif is_member and causes.is_excluded(account_id):
                cloud.require(f"the organization's source policy excludes {account_id}", not is_granted)
        elif granted and not is_granted:
            cloud.require(f"{account_id} is granted, or finds no room", _is_full(cloud) and not in_force)
            continue
        elif "access" in row:
            # A row without access, after a failure, leaves what was granted before.
            cloud.require(f"IAM grants {account_id} as its row does: {row}", is_granted is granted)
        if "access" in row:
            cloud.require(f"in_force_since of {account_id} is right: {row}", in_force is granted)
    if not in_organization:
        named = [account_id for shard in cloud.shards().values() for account_id in shard["applied"]["accounts"]]
        cloud.require("no account is in two shards", len(named) == len(set(named)))
        cloud.require(f"every account in a shard has a row: {set(named) - set(rows)}", set(named) <= set(rows))
