"""Items of the source policy's table as somebody's hand left them: read for what they say, or refused by name, and made good."""

import json
import re
from typing import Any

from tests.fuzzing.items import item_of
from tests.fuzzing.target import Target, World, ask, work_once
from tests.simulation.changes import STRANGER
from tests.simulation.cloud import reader, said_by
from tests.simulation.members import MANAGEMENT
from tests.simulation.one_fault import Stage
from tests.simulation.stages import MEMBER_ROLE, SOURCE_POLICY, event
from tests.simulation.strangers import MEMBER, nobody_else_was_entered

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
    in_iam = {each for held in stage.cloud.source_policies().values() for each in said_by(held.document).named}
    assert in_iam <= {MEMBER, MANAGEMENT} | written, in_iam
    # What the message of an unreadable item tells one to do.
    stage.cloud.tables.items["source-policy"] = {}
    stage.ask("backfill", {"accounts": [MEMBER]})
    stage.work()
    nobody_else_was_entered(stage, besides=written, recorded=STRANGER in written)
    assert stage.cloud.row(MEMBER)["outcome"] == "enrolled"
    assert MEMBER in stage.cloud.shards()[SOURCE_POLICY]["accounts"]


def _change(stage: Stage, key: str, changed: Any) -> None:
    table = stage.cloud.tables.items["source-policy"]
    item = item_of("policy_name", key, changed)
    if item is not None:
        table[key] = item
    elif changed is None:
        table.pop(key, None)


def _seeds() -> list[Any]:
    first = {
        "accounts": f"{MANAGEMENT},{MEMBER}",
        "excluded": "",
        "frozen": False,
        "version": 2,
        "written": 2,
        "form": "0123456789abcdef",
        "attached": {"SS": [reader()]},
    }
    second = {**first, "accounts": {"SS": [STRANGER]}, "excluded": {"SS": [MEMBER]}, "frozen": True}
    names = {"MEMBER_ROLE_NAME": MEMBER_ROLE, "SOURCE_POLICY_NAME": SOURCE_POLICY}
    counted = {"version": 3, "made_for": {**names, "SOURCE_PRINCIPAL_ARNS' account": MANAGEMENT}}
    pen = {"owner": "enroll.1", "until": 1_800_000_600}
    schedules = [["rerun", {}], ["resync", {}]]
    whole = ["retire", {"accounts": "all", "force": True}]
    return [
        {"items": {}, "asked": schedules},
        {"items": {SOURCE_POLICY: first, "#placement": counted, "#pen": pen}, "asked": schedules},
        {"items": {SOURCE_POLICY: first, f"{SOURCE_POLICY}-2": second}, "asked": schedules},
        {"items": {SOURCE_POLICY: {**first, "accounts": "*"}}, "asked": schedules},
        {
            "items": {SOURCE_POLICY: {**first, "attached": "everybody", "version": "2"}},
            "asked": [["freeze", {"frozen": True}]],
        },
        {
            "items": {SOURCE_POLICY: None, f"{SOURCE_POLICY}-2": second},
            "asked": [["resync", {"dry_run": True}], *schedules],
        },
        {"items": {"#placement": {"version": 1.5, "made_for": "all"}}, "asked": [whole, whole, *schedules]},
        {"items": {"#placement": {"version": 2, "scope": "organization"}}, "asked": [*schedules, whole]},
        {"items": {"#placement": {"version": 2, "scope": "everywhere"}}, "asked": schedules},
        {"items": {"#placement": {"version": 2, "made_for": names}, "#stopped": {}}, "asked": [whole, *schedules]},
        {
            "items": {"#placement": None, "#pen": {**pen, "until": "for ever"}, "#stopped": None},
            "asked": [whole, *schedules],
        },
    ]


SHARDS = Target(
    "shards",
    _run,
    _seeds,
    words=(
        *(SOURCE_POLICY, f"{SOURCE_POLICY}-2", f"{SOURCE_POLICY}-3", "#placement", "#pen", "#stopped"),
        *(10**125, {"SS": ["a"]}, {"SS": [MEMBER]}, {"NS": [1]}, {"B": "b"}, f"{MEMBER},{STRANGER}", reader()),
    ),
)
