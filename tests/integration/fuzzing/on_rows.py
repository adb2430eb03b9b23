"""Rows of the ledger as another release or somebody's hand left them: read for what they say, and written anew."""

from typing import Any

from chalicelib.accounts import Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from tests.integration.fuzzing.items import item_of
from tests.integration.fuzzing.target import Target, World, ask
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.stages import member_role_arn
from tests.integration.simulation.strangers import DEPARTED, MEMBER, nobody_else_was_entered


def _run(world: World, content: Any) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("rows"), dict):
        return
    stage = world.strangers.enrolled()
    items = {key: item for key, row in content["rows"].items() if (item := item_of("account_id", key, row)) is not None}
    stage.cloud.tables.items["ledger"] = items
    ask(stage, content.get("asked"))
    stage.work()
    # Whatever was there: an operator who names the account has it enrolled.
    stage.ask("backfill", {"accounts": [MEMBER]})
    stage.work()
    # A row grants access (docs/security.md), and the source policy reaches no account outside the organization.
    nobody_else_was_entered(stage, besides=frozenset(items), recorded=STRANGER in items)
    assert stage.cloud.tables.items["ledger"][MEMBER]["outcome"] == {"S": "enrolled"}


def _seeds() -> list[Any]:
    written = {
        **{name: "" for name in LedgerRow.__dataclass_fields__ if name != "account_id"},
        "outcome": "enrolled",
        "change": "created",
        "role_arn": member_role_arn(MEMBER),
        "access": "granted",
        "in_force_since": "2027-01-15T08:00:00.000000+00:00",
        "retirement_requested_at": None,
        "revision": 2,
        "attempts": 3,
        "updated_at": "2027-01-15T08:00:00.000000+00:00",
        "enrolled_at": "2026-01-01T00:00:00+00:00",
    }
    retired = {
        **written,
        "outcome": "retired",
        "reason": "retired_by_request",
        "access": "excluded",
        "retirement_requested_at": "2027-01-15T08:00:00+00:00",
    }
    later = {
        "outcome": "of a later release",
        "reason": "of a later release",
        "change": {"SS": ["a"]},
        "more": {"B": "b"},
    }
    schedules = [["rerun", {}], ["resync", {}]]
    whole = ["retire", {"accounts": "all", "force": True}]
    return [
        {"rows": {MEMBER: written}, "asked": schedules},
        {"rows": {MEMBER: {}, DEPARTED: {"outcome": "failed"}, STRANGER: {"outcome": "failed"}}, "asked": schedules},
        {"rows": {MEMBER: retired, DEPARTED: retired}, "asked": [*schedules, ["retire", {"accounts": [MEMBER]}]]},
        {"rows": {MEMBER: later, "#later": later}, "asked": [*schedules, ["backfill", {"accounts": "failed"}]]},
        {
            "rows": {MEMBER: {"attempts": {"NS": [1]}, "updated_at": [1]}, STRANGER: written},
            "asked": [whole, whole, whole],
        },
        {
            "rows": {MEMBER: written, STRANGER: written},
            "asked": [["resync", {"dry_run": True}], ["rerun", {"dry_run": True}]],
        },
        {"rows": {STRANGER: {**written, "access": None}}, "asked": [whole, whole]},
    ]


ROWS = Target(
    "rows",
    _run,
    _seeds,
    words=(*Outcome, *Change, *Reason, *Access, 10**125, {"SS": ["a"]}, {"NS": [1]}, {"B": "b"}, "#later"),
)
