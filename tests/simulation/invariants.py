"""What must hold once all is quiet and one full resync has run."""

from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from chalicelib.settings import Settings
from tests.simulation.cloud import ACCESS_ROLE, READER, Cloud, named_by
from tests.simulation.iam import Role
from tests.simulation.members import MANAGEMENT
from tests.simulation.stages import member_role_arn

if TYPE_CHECKING:
    from tests.simulation.changes import Changes


def check_quiet(cloud: Cloud, settings: Settings, answer: Any, changes: "Changes") -> None:
    """Require every invariant; `answer` is that of the last resync."""
    rows = cloud.rows()
    for account_id in cloud.members.members:
        row = rows.get(account_id)
        cloud.require(f"the ledger says where every account stands, and not of {account_id}", row is not None)
        _check_account(cloud, settings, account_id, row or {}, ineligible=changes.is_ineligible(account_id))
    _check_source_policy(cloud, settings, rows)
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


def _check_account(cloud: Cloud, settings: Settings, account_id: str, row: dict[str, Any], *, ineligible: bool) -> None:
    stands = f"{account_id} stands where it should, and not {row.get('outcome')} {row.get('reason')} {row.get('error')}"
    if ineligible:
        cloud.require(stands, row.get("outcome") in {"skipped", "retired"} and row.get("policy_name") is None)
        return
    role = cloud.iam.role(member_role_arn(account_id))
    enters = account_id == MANAGEMENT or (
        account_id not in cloud.denied and cloud.iam.role(f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}") is not None
    )
    if not enters:
        cloud.require(stands, row.get("outcome") == "failed")
    elif role is not None and not settings.owner(dict(role.tags), role.arn).ours:
        cloud.require(stands, (row.get("outcome"), row.get("reason")) == ("failed", "foreign_role"))
    else:
        cloud.require(stands, row.get("outcome") == "enrolled")
        cloud.require(
            f"the role of {account_id} is the desired one, and not {role}", _is_desired(role, settings, account_id)
        )


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


def _check_source_policy(cloud: Cloud, settings: Settings, rows: dict[str, dict[str, Any]]) -> None:
    policies, shards = cloud.source_policies(), cloud.shards()
    cloud.require(f"IAM holds the shards of the table: {set(policies)}, {set(shards)}", set(policies) == set(shards))
    named: set[str] = set()
    for name, policy in policies.items():
        here = named_by(policy.document)
        cloud.require(f"IAM says of {name} what its item says", here == shards[name].get("accounts", set()))
        cloud.require(f"{name} has at most five versions", len(policy.versions) <= 5)
        cloud.require(f"{name} has no version of others'", max(dict(policy.versions)) == policy.default)
        cloud.require(f"{name} is ours", set(settings.ownership_tags.items()) <= policy.tags)
        cloud.require(f"{name} is attached to the reader alone", policy.attached == {READER})
        cloud.require(
            f"{name} denies everything while it is frozen", shards[name]["frozen"] == ('"Deny"' in policy.document)
        )
        cloud.require("no account is in two shards", not named & here)
        named |= here
    kept = {account_id for account_id, row in rows.items() if row.get("policy_name") is not None}
    cloud.require(
        f"the source policy names exactly the enrolled: {sorted(named)} are named, {sorted(kept)} by the ledger",
        named == kept,
    )
