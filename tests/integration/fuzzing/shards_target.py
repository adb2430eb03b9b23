"""Items of the source-policy table as they were edited: read, or reported as unreadable, and restored."""

import json
import re
from typing import Any

from chalicelib.settings import Scope
from tests.integration.fuzzing.items import item_of
from tests.integration.fuzzing.requests_target import SCHEDULES, UNINSTALL_REQUEST
from tests.integration.fuzzing.target import Target, deliver_once, send_requests
from tests.integration.simulation.call_checks import NO_ACCOUNT
from tests.integration.simulation.cloud import SOURCE_POLICY, source_principal
from tests.integration.simulation.environment import MEMBER_ROLE, event
from tests.integration.simulation.example_stages import MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID, UNKNOWN_ACCOUNT
from tests.integration.simulation.simulated_stage import SimulatedStage

_ID = re.compile(r"[0-9]{12}")


def _run(stages: ExampleStages, content: Any) -> None:
    """Take `items` by their key, each of which replaces or deletes one, and `requests`."""
    if not isinstance(content, dict) or not isinstance(content.get("items"), dict):
        return
    stage = stages.enrolled()
    for key, item in content["items"].items():
        _replace(stage, key, item)
    stage.invoke("on_account_event", event(MEMBER))
    send_requests(stage, content.get("requests"))
    for _ in range(2):
        deliver_once(stage)
    named = frozenset(_ID.findall(json.dumps(content["items"])))
    granted = {each for grant in stage.cloud.all_grants() for each in grant.named}
    assert granted <= {MEMBER, MANAGEMENT, NO_ACCOUNT} | named, granted
    # The remedy that the error of an unreadable item suggests.
    stage.cloud.tables.items["source-policy"] = {}
    stage.request("backfill", {"accounts": [MEMBER]})
    stage.drain()
    check_unknown_account(stage, named=named, recorded=UNKNOWN_ACCOUNT in named)
    assert stage.cloud.row(MEMBER)["outcome"] == "enrolled"
    assert stage.cloud.grants(MEMBER)
    assert "in_force_since" in stage.cloud.row(MEMBER)


def _replace(stage: SimulatedStage, key: str, content: Any) -> None:
    table = stage.cloud.tables.items["source-policy"]
    item = item_of("policy_name", key, content)
    if item is not None:
        table[key] = item
    elif content is None:
        table.pop(key, None)


def _seeds() -> list[Any]:
    version = {
        "accounts": f"{MANAGEMENT},{MEMBER}",
        "excluded": "",
        "scope": "accounts",
        "frozen": False,
        "digest": "0123456789abcdef",
        "attached": [source_principal()],
        "version_id": "v1",
    }
    first = {"applied": version, "written_at": "2027-01-15T08:00:00+00:00", "denied_principals": [source_principal()]}
    unfinished = {**first, "applying": {**version, "accounts": UNKNOWN_ACCOUNT, "frozen": True}}
    quota = {"reason": "quota", "error": "no"}
    second = {"applied": {**version, "accounts": UNKNOWN_ACCOUNT, "excluded": MEMBER}, "error": quota}
    second_name = f"{SOURCE_POLICY}-2"
    names = {"member_role_name": MEMBER_ROLE, "source_policy_name": SOURCE_POLICY, "source_account_id": MANAGEMENT}
    status = {"names": names, "organization_id": ORGANIZATION_ID, "shards": 1, "room": 10}
    lease = {**status, "run_owner": "publish.1", "run_until": 1_800_000_010}
    uninstall = [UNINSTALL_REQUEST, *SCHEDULES]
    items: list[tuple[Any, Any]] = [
        ({}, SCHEDULES),
        ({SOURCE_POLICY: first, "#status": lease}, SCHEDULES),
        ({SOURCE_POLICY: unfinished, second_name: second}, SCHEDULES),
        ({SOURCE_POLICY: {"applied": {**version, "accounts": "*"}}}, SCHEDULES),
        ({SOURCE_POLICY: {"applied": "all"}}, [["freeze", {"frozen": True}]]),
        ({SOURCE_POLICY: None, second_name: second}, [["resync", {"dry_run": True}], *SCHEDULES]),
        ({"#status": {**status, "shards": 1.5, "names": "all"}}, [UNINSTALL_REQUEST, *uninstall]),
        ({"#status": {**status, "shards": 3, "blocked": quota}}, [*SCHEDULES, UNINSTALL_REQUEST]),
        ({"#status": {**status, "looked_at": "yesterday", "blocked": "for ever"}}, SCHEDULES),
        ({"#control": {"frozen": "yes", "check_requested_at": 7, "scope_recorded": "all"}}, SCHEDULES),
        ({"#control": {"uninstalling": True, "uninstalled": True}, "#status": None}, uninstall),
        ({"#status": {"run_owner": "publish.1", "run_until": "for ever"}}, uninstall),
    ]
    return [{"items": replaced, "requests": requests} for replaced, requests in items]


SHARDS = Target(
    "shards",
    _run,
    _seeds,
    words=(
        *(SOURCE_POLICY, f"{SOURCE_POLICY}-2", f"{SOURCE_POLICY}-3", "#control", "#status"),
        *(*Scope, "applied", "applying", "error", "frozen", "uninstalling", "run_owner", "run_until"),
        *(10**125, {"SS": ["a"]}, {"SS": [MEMBER]}, {"NS": [1]}, {"B": "b"}, f"{MEMBER},{UNKNOWN_ACCOUNT}"),
        source_principal(),
    ),
)
