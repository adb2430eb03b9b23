"""What a scenario's end state is compared by."""

from dataclasses import replace
from typing import Any

from chalicelib.documents import Document
from tests.integration.simulation.call_checks import NO_ACCOUNT
from tests.integration.simulation.cloud import SOURCE_POLICY, Cloud
from tests.integration.simulation.grants import grant_of
from tests.integration.simulation.iam import Policy

_ROW = ("outcome", "reason", "error", "role_arn", "access", "attempts")
_STATUS = ("names", "organization_id", "room", "principals", "blocked", "scope", "run_owner")
_UNFINISHED = {"applying", "unfinished", "error"}


def snapshot(cloud: Cloud, *, merged: bool = False) -> dict[str, Any]:
    """Return the state without what may differ: times, the numbers of versions, and further shards that became empty.

    `merged` joins the shards: after a terminal error, new accounts go to another shard.
    """
    state: dict[str, Any] = {f"row {key}": _row(row) for key, row in cloud.rows().items()}
    policies = cloud.source_policies()
    shards = {name: each for name, each in cloud.shards().items() if name == SOURCE_POLICY or _names_accounts(each)}
    if merged:
        state |= _merged(shards, {name: policies[name] for name in shards if name in policies})
    else:
        state |= {f"item {name}": _record(record) for name, record in shards.items()}
    left_out = {policy.arn for name, policy in policies.items() if merged or name not in shards}
    for entity in cloud.iam.everything():
        if not isinstance(entity, Policy):
            state[entity.arn] = replace(entity, attached=entity.attached - left_out)
        elif entity.arn not in left_out:
            state[entity.arn] = _policy(entity)
    state["queues"] = (len(cloud.queues.messages), cloud.queues.accounts.dead, cloud.queues.publish.dead)
    state["control"] = {name: cloud.control().get(name) for name in ("frozen", "uninstalling", "uninstalled")}
    state["status"] = {name: cloud.status().get(name) for name in _STATUS}
    return state


def _row(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row.get(name) for name in _ROW}
    # Whether it was ever granted depends on when its row was written first, or on what failed before.
    if row.get("reason") in {"departed", "uninstalled"}:
        kept["outcome"] = "left"
    return kept | {name: name in row for name in ("in_force_since", "retirement_requested_at")}


def _merged(shards: dict[str, dict[str, Any]], policies: dict[str, Policy]) -> dict[str, Any]:
    applied = [record["applied"] for record in shards.values() if "applied" in record]
    grants = [grant_of(policy.document) for policy in policies.values()]
    return {
        "shards": {
            name: frozenset[str]().union(*(version[name] for version in applied))
            for name in ("accounts", "excluded", "attached")
        },
        "unfinished shards": {name for name, record in shards.items() if record.keys() & _UNFINISHED},
        "granted": frozenset[str]().union(*(grant.named for grant in grants)) - {NO_ACCOUNT},
        "grants": {(grant.organization, grant.excluded, grant.frozen, bool(grant.named)) for grant in grants},
        "policies": {_policy(policy)[1:] for policy in policies.values()},
    }


def _names_accounts(record: dict[str, Any]) -> bool:
    versions = (record.get("applied"), record.get("applying"))
    return any(version and (version["accounts"] or version["excluded"]) for version in versions)


def _record(record: dict[str, Any]) -> dict[str, Any]:
    versions = {name: {**(record.get(name) or {}), "version_id": None} for name in ("applied", "applying")}
    return {**versions, "unfinished": record.get("unfinished"), "error": record.get("error")}


def _policy(policy: Policy) -> Any:
    strays = tuple(number for number, _ in policy.versions if number > policy.default)
    return Document(policy.document).canonical, policy.attached, policy.tags, strays, len(policy.versions) <= 5
