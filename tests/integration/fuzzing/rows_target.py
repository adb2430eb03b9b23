"""Rows of the ledger as another release wrote them, or as they were edited: read, and written again."""

from dataclasses import fields
from typing import Any

from chalicelib.accounts import Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from tests.integration.fuzzing.items import item_of
from tests.integration.fuzzing.requests_target import SCHEDULES, UNINSTALL_REQUEST
from tests.integration.fuzzing.target import Target, send_requests
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.example_stages import DEPARTED, MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.members import UNKNOWN_ACCOUNT

_TIME = "2027-01-15T08:00:00.000000+00:00"


def _run(stages: ExampleStages, content: Any) -> None:
    """Take `rows` by their key, and `requests`."""
    if not isinstance(content, dict) or not isinstance(content.get("rows"), dict):
        return
    stage = stages.enrolled()
    items = {key: item for key, row in content["rows"].items() if (item := item_of("account_id", key, row)) is not None}
    stage.cloud.tables.items["ledger"] = items
    send_requests(stage, content.get("requests"))
    stage.drain()
    # Whatever was there, a backfill that names the account enrolls it.
    stage.request("backfill", {"accounts": [MEMBER]})
    stage.drain()
    # A row grants access (docs/security.md), and the source policy reaches no account outside the organization.
    check_unknown_account(stage, named=frozenset(items), recorded=UNKNOWN_ACCOUNT in items)
    assert stage.cloud.tables.items["ledger"][MEMBER]["outcome"] == {"S": "enrolled"}


def _seeds() -> list[Any]:
    row = {
        **dict.fromkeys((field.name for field in fields(LedgerRow) if field.name != "account_id"), ""),
        "outcome": "enrolled",
        "change": "created",
        "role_arn": member_role_arn(MEMBER),
        "access": "granted",
        "in_force_since": _TIME,
        "retirement_requested_at": None,
        "revision": 2,
        "attempts": 3,
        "updated_at": _TIME,
        "enrolled_at": "2026-01-01T00:00:00+00:00",
    }
    retirement = {"reason": "retired_by_request", "access": "excluded", "retirement_requested_at": _TIME}
    retired = {**row, "outcome": "retired", **retirement}
    unknown = "of a later release"
    later = {"outcome": unknown, "reason": unknown, "change": {"SS": ["a"]}, "more": {"B": "b"}}
    failed = {"outcome": "failed"}
    dry_runs = [["resync", {"dry_run": True}], ["rerun", {"dry_run": True}]]
    malformed = {"attempts": {"NS": [1]}, "updated_at": [1]}
    return [
        {"rows": {MEMBER: row}, "requests": SCHEDULES},
        {"rows": {MEMBER: {}, DEPARTED: failed, UNKNOWN_ACCOUNT: failed}, "requests": SCHEDULES},
        {"rows": {MEMBER: retired, DEPARTED: retired}, "requests": [*SCHEDULES, ["retire", {"accounts": [MEMBER]}]]},
        {"rows": {MEMBER: later, "#later": later}, "requests": [*SCHEDULES, ["backfill", {"accounts": "failed"}]]},
        {"rows": {MEMBER: malformed, UNKNOWN_ACCOUNT: row}, "requests": 3 * [UNINSTALL_REQUEST]},
        {"rows": {MEMBER: row, UNKNOWN_ACCOUNT: row}, "requests": dry_runs},
        {"rows": {UNKNOWN_ACCOUNT: {**row, "access": None}}, "requests": 2 * [UNINSTALL_REQUEST]},
    ]


ROWS = Target(
    "rows",
    _run,
    _seeds,
    words=(*Outcome, *Change, *Reason, *Access, 10**125, {"SS": ["a"]}, {"NS": [1]}, {"B": "b"}, "#later"),
)
