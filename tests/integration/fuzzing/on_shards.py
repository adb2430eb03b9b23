"""Items of the source policy's table as somebody's hand left them: read for what they say, or refused by name, and made good."""

import json
import re
from typing import Any

from chalicelib.settings import Scope
from tests.integration.fuzzing.items import item_of
from tests.integration.fuzzing.target import Target, World, ask, work_once
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.cloud import SOURCE_POLICY, reader
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID
from tests.integration.simulation.one_fault import Stage
from tests.integration.simulation.stages import MEMBER_ROLE, event
from tests.integration.simulation.strangers import MEMBER, nobody_else_was_entered

_ID = re.compile(r"[0-9]{12}")


def _run(world: World, content: Any) -> None:
    """Take `items`, each by its key in place of what was there, or none; and what is `asked`."""
    if not isinstance(content, dict) or not isinstance(content.get("items"), dict):
        return
    stage = world.strangers.enrolled()
    for key, changed in content["items"].items():
        _change(stage, key, changed)
    stage.invoke("on_account_event", event(MEMBER))
    ask(stage, content.get("asked"))
    for _ in range(2):
        work_once(stage)
    written = frozenset(_ID.findall(json.dumps(content["items"])))
    in_iam = {each for grant in stage.cloud.granted() for each in grant.named}
    assert in_iam <= {MEMBER, MANAGEMENT, "000000000000"} | written, in_iam
    # What the message of an unreadable item tells one to do.
    stage.cloud.tables.items["source-policy"] = {}
    stage.ask("backfill", {"accounts": [MEMBER]})
    stage.work()
    nobody_else_was_entered(stage, besides=written, recorded=STRANGER in written)
    assert stage.cloud.row(MEMBER)["outcome"] == "enrolled"
    assert stage.cloud.grants(MEMBER)
    assert "in_force_since" in stage.cloud.row(MEMBER)


def _change(stage: Stage, key: str, changed: Any) -> None:
    table = stage.cloud.tables.items["source-policy"]
    item = item_of("policy_name", key, changed)
    if item is not None:
        table[key] = item
    elif changed is None:
        table.pop(key, None)


def _seeds() -> list[Any]:
    version = {
        "accounts": f"{MANAGEMENT},{MEMBER}",
        "excluded": "",
        "scope": "accounts",
        "frozen": False,
        "digest": "0123456789abcdef",
        "attached": [reader()],
        "version_id": "v1",
    }
    first = {"applied": version, "written_at": "2027-01-15T08:00:00+00:00", "denied_principals": [reader()]}
    unfinished = {**first, "applying": {**version, "accounts": STRANGER, "frozen": True}}
    second = {"applied": {**version, "accounts": STRANGER, "excluded": MEMBER}, "error": _error("quota")}
    names = {
        "member_role_name": MEMBER_ROLE,
        "source_policy_name": SOURCE_POLICY,
        "source_account_id": MANAGEMENT,
    }
    status = {"names": names, "organization_id": ORGANIZATION_ID, "shards": 1, "room": 10}
    lease = {**status, "run_owner": "publish.1", "run_until": 1_800_000_010}
    schedules = [["rerun", {}], ["resync", {}]]
    whole = ["retire", {"accounts": "all", "force": True}]
    second_name = f"{SOURCE_POLICY}-2"
    return [
        {"items": {}, "asked": schedules},
        {"items": {SOURCE_POLICY: first, "#status": lease}, "asked": schedules},
        {"items": {SOURCE_POLICY: unfinished, second_name: second}, "asked": schedules},
        {"items": {SOURCE_POLICY: {"applied": {**version, "accounts": "*"}}}, "asked": schedules},
        {"items": {SOURCE_POLICY: {"applied": "everybody"}}, "asked": [["freeze", {"frozen": True}]]},
        {"items": {SOURCE_POLICY: None, second_name: second}, "asked": [["resync", {"dry_run": True}], *schedules]},
        {"items": {"#status": {**status, "shards": 1.5, "names": "all"}}, "asked": [whole, whole, *schedules]},
        {"items": {"#status": {**status, "shards": 3, "blocked": _error("quota")}}, "asked": [*schedules, whole]},
        {"items": {"#status": {**status, "looked_at": "yesterday", "blocked": "for ever"}}, "asked": schedules},
        {
            "items": {"#control": {"frozen": "yes", "check_requested_at": 7, "scope_recorded": "all"}},
            "asked": schedules,
        },
        {
            "items": {"#control": {"uninstalling": True, "uninstalled": True}, "#status": None},
            "asked": [whole, *schedules],
        },
        {"items": {"#status": {"run_owner": "publish.1", "run_until": "for ever"}}, "asked": [whole, *schedules]},
    ]


def _error(reason: str) -> dict[str, str]:
    return {"reason": reason, "error": "no"}


SHARDS = Target(
    "shards",
    _run,
    _seeds,
    words=(
        *(SOURCE_POLICY, f"{SOURCE_POLICY}-2", f"{SOURCE_POLICY}-3", "#control", "#status"),
        *(*Scope, "applied", "applying", "error", "frozen", "uninstalling", "run_owner", "run_until"),
        *(10**125, {"SS": ["a"]}, {"SS": [MEMBER]}, {"NS": [1]}, {"B": "b"}, f"{MEMBER},{STRANGER}", reader()),
    ),
)
