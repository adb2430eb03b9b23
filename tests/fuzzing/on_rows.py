"""Rows of the ledger as another release or somebody's hand left them: read for what they say, and written anew."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from chalicelib.accounts import Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from tests.fuzzing.target import Target, World, ask
from tests.simulation.changes import STRANGER
from tests.simulation.stages import member_role_arn
from tests.simulation.strangers import DEPARTED, MEMBER, nobody_else_was_entered

_LONGEST_KEY = 2048  # bytes ("Quotas in Amazon DynamoDB")


def _run(world: World, content: Any) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("rows"), dict):
        return
    stage = world.strangers.enrolled()
    items = {key: item for key, row in content["rows"].items() if (item := _item(key, row)) is not None}
    stage.cloud.tables.items["ledger"] = items
    ask(stage, content.get("asked"))
    stage.work()
    # Whatever was there: an operator who names the account has it enrolled.
    stage.ask("backfill", {"accounts": [MEMBER]})
    stage.work()
    nobody_else_was_entered(stage, recorded=STRANGER in items)
    assert stage.cloud.tables.items["ledger"][MEMBER]["outcome"] == {"S": "enrolled"}


def _item(key: str, row: Any) -> dict[str, Any] | None:
    """Write a row as DynamoDB holds it; None if it can't."""
    try:
        size = len(key.encode())
        held = {name: _held(value) for name, value in row.items() if name.encode() and name != "account_id"}
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None
    return {"account_id": {"S": key}, **held} if 0 < size <= _LONGEST_KEY else None


def _held(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value.encode().decode()}
        case int() | float():
            return {"N": _number(value)}
        case list():
            return {"L": [_held(each) for each in value]}
        case {"SS": [first, *others]}:
            return {"SS": [str(each) for each in (first, *others)]}
        case {"NS": [first, *others]}:
            return {"NS": [_number(each) for each in (first, *others)]}
        case {"B": content}:
            return {"B": str(content).encode()}
    return {"M": {name: _held(each) for name, each in value.items()}}


def _number(value: Any) -> str:
    """Write a number of at most 38 digits that count, and 126 in all, as DynamoDB does ("Data types")."""
    number = Decimal(str(value)).normalize(Context(prec=38, traps=[Inexact, InvalidOperation]))
    if not number.is_finite() or abs(number.adjusted()) > 125:
        raise ValueError(value)
    return f"{number:f}"


def _seeds() -> list[Any]:
    written = {
        **{name: "" for name in LedgerRow.__dataclass_fields__ if name != "account_id"},
        "outcome": "enrolled",
        "change": "created",
        "role_arn": member_role_arn(MEMBER),
        "fingerprint": "0123456789abcdef",
        "policy_name": "CrossAccountReadOnlyAccess",
        "attempts": 3,
        "updated_at": "2027-01-15T08:00:00.000000+00:00",
        "enrolled_at": "2026-01-01T00:00:00+00:00",
    }
    retired = {**written, "outcome": "retired", "reason": "retired_by_request", "policy_name": None}
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
        {"rows": {STRANGER: {**written, "policy_name": None}}, "asked": [whole, whole]},
    ]


ROWS = Target(
    "rows",
    _run,
    _seeds,
    words=(*Outcome, *Change, *Reason, 10**125, {"SS": ["a"]}, {"NS": [1]}, {"B": "b"}, "#later"),
)
