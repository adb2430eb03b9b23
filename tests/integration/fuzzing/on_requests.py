"""Requests of each operators' function, one after the other: answered with JSON, or refused by name."""

from typing import Any

from chalicelib.errors import Reason
from chalicelib.requests import Selection
from tests.integration.fuzzing.target import FUNCTIONS, Target, World, ask, work_once
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.strangers import DEPARTED, MEMBER, nobody_else_was_entered


def _run(world: World, content: Any) -> None:
    stage = world.strangers.enrolled()
    ask(stage, content)
    for _ in range(2):
        work_once(stage)
    nobody_else_was_entered(stage)


def _seeds() -> list[Any]:
    scheduled = {"source": "aws.events", "detail-type": "Scheduled Event"}
    whole = {"accounts": "all", "force": True}
    named = {"accounts": [MEMBER]}
    return [
        *([[each, request]] for each in FUNCTIONS for request in ({}, scheduled, named, {**named, "dry_run": True})),
        *([[each, {"accounts": [STRANGER, DEPARTED], "force": True}]] for each in FUNCTIONS),
        [["freeze", {"frozen": True}], ["resync", {"accounts": "new"}], ["freeze", {"frozen": False}]],
        [["retire", whole], ["retire", whole], ["backfill", {"accounts": "all", "after": MEMBER}]],
        [
            ["retire", named],
            ["resync", {"dry_run": True}],
            ["backfill", {**named, "dry_run": True}],
            ["backfill", named],
        ],
        [["backfill", {"accounts": "new", "ous": ["ou-ab12-11111111"], "reasons": ["departed"]}]],
        [["rerun", {"accounts": "failed", "reasons": ["not_ready", "quota"]}]],
    ]


REQUESTS = Target("requests", _run, _seeds, words=(*FUNCTIONS, *Selection, *Reason, "ou-ab12-11111111", {}))
