"""Requests to the operators' functions: each returns JSON, or raises an error that names what is wrong."""

from typing import Any

from chalicelib.errors import Reason, RequestError
from chalicelib.requests import Selection
from tests.integration.fuzzing.target import FUNCTIONS, Target, deliver_once, send_requests
from tests.integration.simulation.example_stages import DEPARTED, MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.members import UNKNOWN_ACCOUNT
from tests.integration.simulation.simulated_stage import SCHEDULED_EVENT, UNINSTALL

SCHEDULES = [["rerun", {}], ["resync", {}]]
UNINSTALL_REQUEST = ["retire", UNINSTALL]


def _run(stages: ExampleStages, content: Any) -> None:
    stage = stages.enrolled()
    send_requests(stage, content, RequestError)
    for _ in range(2):
        deliver_once(stage)
    check_unknown_account(stage)


def _seeds() -> list[Any]:
    named = {"accounts": [MEMBER]}
    each_request: tuple[dict[str, Any], ...] = ({}, SCHEDULED_EVENT, named, {**named, "dry_run": True})
    return [
        *([[function, request]] for function in FUNCTIONS for request in each_request),
        *([[function, {"accounts": [UNKNOWN_ACCOUNT, DEPARTED], "force": True}]] for function in FUNCTIONS),
        [["freeze", {"frozen": True}], ["resync", {"accounts": "new"}], ["freeze", {"frozen": False}]],
        [UNINSTALL_REQUEST, UNINSTALL_REQUEST, ["backfill", {"accounts": "all", "after": MEMBER}]],
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
