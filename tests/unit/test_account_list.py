"""Which accounts are listed, and how: as lines, a table, JSON or CSV, with any name."""

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest
import typer
from rich.console import Console

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem
from rolecall.accounts import (
    COLUMNS,
    Entry,
    Filter,
    parse_filter,
    read_ou_paths,
    resolve_accounts,
    select,
    sort_entries,
)
from rolecall.accounts_page import entry_lines, entry_table, print_entries, write_csv
from rolecall.console import printable
from rolecall.errors import CommandError
from rolecall.options import Format, Sort, chosen_format
from rolecall.organization_units import Unit
from tests.unit.builders import settings
from tests.unit.ledger_rows import account, records, row
from tests.unit.operated import OperatedStage

A, B, C, D, E = (AccountId(str(digit) * 12) for digit in range(1, 6))
OUTER, INNER = "ou-ab12-11111111", "ou-ab12-22222222"
LISTED = [account(A, "prod-one", ou_ids=(OUTER, INNER)), account(B, "Prod-Two", ou_ids=(OUTER,)), account(D, "new")]
ROWS = [
    row(A, name="prod-one"),
    row(B, Outcome.FAILED, name="formerly", reason=Reason.QUOTA, error="no room"),
    row(C, Outcome.RETIRED, name="gone", reason=Reason.DEPARTED),
]
NEW = Entry(account_id=D, name="new", row=None)
HOSTILE = [
    'a,"b"',
    "👩‍💻 <script>alert(1)</script>",
    "two\nlines\x1b[31m",
    "[bold]markup[/bold] [/nothing]",
    "=HYPERLINK()",
]


HOSTILE_CELLS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    " =1+1",
    "\u200d=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM(1)",
    "\ufe661",
]


def found_by(wanted: Filter, rows: Iterable[LedgerRow] = ROWS, blocked: Reason | None = None) -> list[Entry]:
    return select(rows, LISTED, wanted, records(blocked=blocked and Problem(blocked, "full")), settings())


def entry(name: str) -> Entry:
    return Entry(account_id=A, name=name, row=row(A, name=name))


def test_departed_and_new_accounts_are_listed() -> None:
    found = found_by(Filter())
    assert [(each.account_id, each.name, each.row and each.row.outcome) for each in found] == [
        (A, "prod-one", Outcome.ENROLLED),
        (B, "Prod-Two", Outcome.FAILED),
        (C, "gone", Outcome.RETIRED),
        (D, "new", None),
    ]


@pytest.mark.parametrize("blocked", [None, Reason.QUOTA])
def test_account_without_access_in_force_is_pending(blocked: Reason | None) -> None:
    reason = blocked or Reason.SOURCE_POLICY_PENDING
    wanted = Filter(outcomes=frozenset({Outcome.PENDING}), reasons=frozenset({reason}))
    (pending,) = found_by(wanted, [row(A, in_force_since=None), row(B)], blocked)
    assert (pending.as_json()["outcome"], pending.as_json()["reason"]) == ("pending", reason)
    assert pending.values[2:4] == ("pending", reason)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(outcomes=frozenset({Outcome.FAILED, Outcome.RETIRED})), [B, C]),
        (Filter(reasons=frozenset({Reason.QUOTA})), [B]),
        (Filter(ou_ids=frozenset({OUTER})), [A, B]),
        (Filter(ou_ids=frozenset({INNER}), outcomes=frozenset({Outcome.FAILED})), []),
        (Filter(name="prod"), [A, B]),
        (Filter(name="PROD-T"), [B]),
        (Filter(name="prod-*"), [A, B]),
        (Filter(name="*two"), [B]),
        (Filter(name="?ew"), [D]),
        (Filter(name="xyz"), []),
    ],
)
def test_filter_selects_accounts(wanted: Filter, found: list[str]) -> None:
    assert [each.account_id for each in found_by(wanted)] == found


@pytest.mark.parametrize("ou_id", ["", "ou", "r-ab12", "ou-ab12-1", "OU-AB12-11111111"])
def test_invalid_ou_id_is_rejected(ou_id: str) -> None:
    with pytest.raises(CommandError, match=r"--ou is .*expected the id of an organizational unit, such as ou-"):
        parse_filter((), (), [OUTER, ou_id], "")


NAMED = [account(A, "one"), account(B, "two"), account(D, "two"), account(E, A)]


class Listed:
    """A stage with some accounts in the organization and in the ledger, or one that must not be listed."""

    def __init__(self, *, is_listed: bool = True) -> None:
        self._is_listed = is_listed

    def accounts(self) -> list[Account]:
        assert self._is_listed
        return NAMED

    def rows(self) -> list[LedgerRow]:
        assert self._is_listed
        return [row(A, name="formerly"), row(C, Outcome.RETIRED, name="gone", reason=Reason.DEPARTED)]


def resolved(*texts: str, is_listed: bool = True) -> list[str]:
    return list(resolve_accounts(cast("Any", Listed(is_listed=is_listed)), texts))


def test_accounts_are_found_by_id_or_name() -> None:
    assert resolved("one", C, "gone", A) == [A, C, C, A]
    assert resolved(D, A, is_listed=False) == [D, A]


def test_name_of_several_accounts_is_rejected_with_their_ids() -> None:
    with pytest.raises(CommandError, match=f"^2 accounts are named 'two': pass an id of {B}, {D}$"):
        resolved("two")


@pytest.mark.parametrize("text", ["", "12", "One", "formerly", "1111111111111", "\uff11" * 12])
def test_unknown_name_is_rejected(text: str) -> None:
    with pytest.raises(CommandError, match="neither an account id of twelve digits nor the name of an account"):
        resolved(text)


def test_unknown_name_is_rejected_with_the_one_that_was_meant() -> None:
    with pytest.raises(CommandError, match=r"did you mean gone\?$"):
        resolved("gonne")
    with pytest.raises(CommandError, match=r"rolecall accounts lists them$"):
        resolved("payments")


@pytest.mark.parametrize("name", HOSTILE_CELLS)
def test_csv_has_no_formula(name: str) -> None:
    out = io.StringIO()
    write_csv([entry(name)], out)
    _, values = csv.reader(io.StringIO(out.getvalue()))
    assert values[1] == f"'{name}"


@pytest.mark.parametrize("name", ["\t=1+1", "\r=1+1", "\x1b]0;owned\x07", "\u202e=1+1", "\x9b31m"])
def test_csv_has_no_control_characters(name: str) -> None:
    out = io.StringIO()
    write_csv([entry(name)], out)
    assert out.getvalue().replace("\n", "").isprintable()
    assert f",{printable(name)}," in out.getvalue()


def test_unreadable_time_is_shown_as_it_is() -> None:
    edited = Entry(account_id=A, name="a", row=row(A, updated_at="yes\x1bterday"))
    _, line = entry_lines([edited])
    assert line.endswith("  yes\\x1bterday")


@pytest.mark.parametrize(
    ("output", "more", "chosen"),
    [
        (Format.TABLE, {"as_json": False}, Format.TABLE),
        (Format.JSON, {"as_json": True}, Format.JSON),
        (Format.CSV, {"as_json": False, "as_csv": True}, Format.CSV),
        (Format.TABLE, {"as_json": True}, Format.JSON),
    ],
)
def test_format_is_an_option_or_a_flag(output: Format, more: dict[str, bool], chosen: Format) -> None:
    assert chosen_format(output, **more) is chosen


@pytest.mark.parametrize(("output", "as_csv"), [(Format.CSV, False), (Format.TABLE, True)])
def test_two_formats_are_rejected(output: Format, as_csv: bool) -> None:
    with pytest.raises(typer.BadParameter, match="--json, --csv and -o are mutually exclusive"):
        chosen_format(output, as_json=True, as_csv=as_csv)


@pytest.mark.parametrize(
    ("by", "order"),
    [
        (Sort.ACCOUNT, [A, B, C, D]),
        (Sort.NAME, [C, D, A, B]),
        (Sort.OU, [B, A, C, D]),
        (Sort.OUTCOME, [A, B, C, D]),
        (Sort.REASON, [C, B, A, D]),
        (Sort.UPDATED, [C, A, B, D]),
    ],
)
def test_accounts_are_sorted(by: Sort, order: list[str]) -> None:
    later = row(C, Outcome.RETIRED, name="gone", reason=Reason.DEPARTED, updated_at="2026-03-02T10:00:30+00:00")
    found = found_by(Filter(), [*ROWS[:2], later])
    assert [each.account_id for each in sort_entries(found[::-1], by)] == order


def test_lines_are_aligned_and_not_cut() -> None:
    long = "x" * 500
    placed = replace(entry("prod-one"), ou_ids=(OUTER, INNER))
    entries = [placed, Entry(account_id=B, name="b", row=row(B, error=long)), NEW]
    assert list(entry_lines(entries)) == [
        "account       name      ou                outcome   reason  change  enrolled          in force          updated           error",
        "111111111111  prod-one  ou-ab12-22222222  enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00",
        f"222222222222  b                           enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00  {long}",
        "444444444444  new                         waiting",
    ]


def test_table_cuts_names_and_errors_but_no_ids() -> None:
    failed = row(B, Outcome.FAILED, reason=Reason.SOURCE_POLICY_PENDING, error="x" * 500)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(entry_table([Entry(account_id=B, name="n" * 50, row=failed)], 80))
    _, line = (each.rstrip() for each in captured.get().splitlines())
    assert line.startswith(f"{B}  n")
    assert line.endswith("…")
    assert "source_policy_pending" in line


@pytest.mark.parametrize(("width", "columns"), [(80, 5), (169, 5), (170, 10)])
def test_table_fits_the_terminal(width: int, columns: int) -> None:
    failed = row(B, Outcome.FAILED, reason=Reason.FOREIGN_SOURCE_POLICY, error="x " * 250)
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(entry_table([Entry(account_id=B, name="n" * 50, row=failed, ou_ids=(INNER,))], width))
    header, line = captured.get().splitlines()
    assert len(re.split(r" {2,}", header.strip())) == columns
    assert max(len(header), len(line)) <= width


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_stays_in_its_cell(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, line = entry_lines([entry(name)])
    assert line.startswith(f"{A}  ")
    assert "\x1b" not in line
    assert name.splitlines()[0] in line

    out = io.StringIO()
    write_csv([entry(name)], out)
    header, values = csv.reader(io.StringIO(out.getvalue()))
    assert tuple(header) == COLUMNS
    assert values[:3] == [A, f"'{name}" if name.startswith("=") else printable(name), "enrolled"]

    print_entries([entry(name), NEW], Format.JSON)
    known, new = json.loads(capsys.readouterr().out)
    assert (known["name"], known["outcome"], known["access"]) == (name, "enrolled", "granted")
    assert (new["account_id"], new["outcome"]) == (D, None)
    assert set(known) == set(new) == {*LedgerRow.__dataclass_fields__, "ou_ids"}


class NestedStage(OperatedStage):
    """A stage whose organization has an account in nested organizational units, and one below the root."""

    def accounts(self) -> list[Account]:
        return [account("444455556666", ou_ids=("ou-top", "ou-low")), account("555566667777")]

    def units(self) -> dict[str, Unit]:
        named = {"r-root": "Root", "ou-top": "Workloads", "ou-low": "Production"}
        return {each: Unit(id=each, name=name, parent=None) for each, name in named.items()}


def test_ou_path_has_the_names_below_the_root() -> None:
    assert read_ou_paths(cast("Any", NestedStage())) == {"444455556666": "Workloads/Production", "555566667777": ""}
