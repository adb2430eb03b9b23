"""Which accounts are listed, and how: as a table, JSON or CSV, whatever their names hold."""

import csv
import io
import json

import pytest
from rich.console import Console

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from rolecall.accounts import (
    COLUMNS,
    Entry,
    Filter,
    lines,
    print_entries,
    read_account_id,
    read_filter,
    select,
    table,
    write_csv,
)
from rolecall.errors import CommandError
from tests.unit.ledger_rows import account, row

A, B, C, D = (AccountId(str(digit) * 12) for digit in range(1, 5))
OUTER, INNER = "ou-ab12-11111111", "ou-ab12-22222222"
LISTED = [account(A, "prod-one", ou_ids=(OUTER, INNER)), account(B, "Prod-Two", ou_ids=(OUTER,)), account(D, "new")]
ROWS = [
    row(A, name="prod-one"),
    row(B, Outcome.FAILED, name="formerly", reason=Reason.QUOTA, error="no room"),
    row(C, Outcome.RETIRED, name="gone", reason=Reason.DEPARTED),
]
HOSTILE = [
    'a,"b"',
    "👩‍💻 <script>alert(1)</script>",
    "two\nlines\x1b[31m",
    "[bold]markup[/bold] [/nothing]",
    "=HYPERLINK()",
]


def ids(**wanted: object) -> list[str]:
    return [entry.account_id for entry in select(ROWS, LISTED, Filter(**wanted))]  # type: ignore[arg-type]


def entry(name: str) -> Entry:
    return Entry(account_id=A, name=name, row=row(A, name=name))


def on_a_terminal(entries: list[Entry], width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table(entries, width))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_all_are_listed_those_that_left_and_those_that_nobody_worked_on() -> None:
    found = select(ROWS, LISTED, Filter())
    assert [(each.account_id, each.name, each.row and each.row.outcome) for each in found] == [
        (A, "prod-one", Outcome.ENROLLED),
        (B, "Prod-Two", Outcome.FAILED),
        (C, "gone", Outcome.RETIRED),
        (D, "new", None),
    ]


@pytest.mark.parametrize("blocked", [None, Reason.QUOTA])
def test_account_whose_access_is_not_in_force_is_listed_as_pending(blocked: Reason | None) -> None:
    rows = [row(A, in_force_since=None), row(B)]
    reason = blocked or Reason.SOURCE_POLICY_PENDING
    wanted = Filter(outcomes=frozenset({Outcome.PENDING}), reasons=frozenset({reason}))
    (pending,) = select(rows, LISTED, wanted, blocked)
    assert (pending.as_json()["outcome"], pending.as_json()["reason"]) == ("pending", reason)
    assert pending.values[2:4] == ("pending", reason)
    assert [each.account_id for each in select(rows, LISTED, Filter(outcomes=frozenset({Outcome.ENROLLED})))] == [B]


def test_filters_narrow_together() -> None:
    assert ids(outcomes=frozenset({Outcome.FAILED, Outcome.RETIRED})) == [B, C]
    assert ids(reasons=frozenset({Reason.QUOTA})) == [B]
    assert ids(ou_ids=frozenset({OUTER})) == [A, B]
    assert ids(ou_ids=frozenset({INNER}), outcomes=frozenset({Outcome.FAILED})) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [("prod", [A, B]), ("PROD-T", [B]), ("prod-*", [A, B]), ("*two", [B]), ("?ew", [D]), ("xyz", [])],
)
def test_a_name_is_a_part_or_a_glob_whatever_its_case(name: str, found: list[str]) -> None:
    assert ids(name=name) == found


@pytest.mark.parametrize("ou_id", ["", "ou", "r-ab12", "ou-ab12-1", "OU-AB12-11111111"])
def test_an_ou_that_is_no_id_is_refused(ou_id: str) -> None:
    with pytest.raises(CommandError, match=r"--ou is .*must be the id of an organizational unit, such as ou-"):
        read_filter((), (), [OUTER, ou_id], "")


@pytest.mark.parametrize("text", ["", "12", "prod-one", "1111111111111", "\uff11" * 12])
def test_an_account_is_named_by_its_id(text: str) -> None:
    with pytest.raises(CommandError, match="twelve digits"):
        read_account_id(text)


def test_two_forms_at_once_are_refused() -> None:
    with pytest.raises(CommandError, match="--json and --csv"):
        print_entries([], as_json=True, as_csv=True)


def test_piped_lines_are_whole() -> None:
    long = "x" * 500
    entries = [*select(ROWS, LISTED, Filter())[:1], Entry(account_id=B, name="b", row=row(B, error=long))]
    assert list(lines(entries)) == [
        "account       name      outcome   reason  change  enrolled          in force          updated           error",
        "111111111111  prod-one  enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00",
        f"222222222222  b         enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00  {long}",
    ]


def test_a_terminal_keeps_ids_whole_and_cuts_errors() -> None:
    failed = row(B, Outcome.FAILED, reason=Reason.SOURCE_POLICY_PENDING, error="x" * 500)
    shown = on_a_terminal([Entry(account_id=B, name="n" * 50, row=failed)], 80)
    assert len(shown) == 2
    assert shown[1].startswith(f"{B}  n")
    assert shown[1].endswith("…")
    assert "source_policy_pending" in shown[1]


def test_an_account_that_nobody_worked_on_waits() -> None:
    (_, line) = lines([Entry(account_id=D, name="new", row=None)])
    assert line == f"{D}  new   waiting"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_one_cell_of_one_line(name: str) -> None:
    _, line = lines([entry(name)])
    assert line.startswith(f"{A}  ")
    assert "\x1b" not in line
    assert "".join(name.splitlines()[0].split()[:1]) in line


def test_markup_in_a_name_is_only_text() -> None:
    _, line = lines([entry("[bold]markup[/bold] [/nothing]")])
    assert "[bold]markup[/bold] [/nothing]  enrolled" in line


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_reads_back_as_one_row(name: str) -> None:
    out = io.StringIO()
    write_csv([entry(name)], out)
    header, line = csv.reader(io.StringIO(out.getvalue()))
    assert tuple(header) == COLUMNS
    assert line[:3] == [A, f"'{name}" if name.startswith("=") else name, "enrolled"]


@pytest.mark.parametrize("name", HOSTILE)
def test_json_reads_back_as_it_was(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_entries([entry(name), Entry(account_id=D, name="new", row=None)], as_json=True, as_csv=False)
    known, waiting = json.loads(capsys.readouterr().out)
    assert (known["name"], known["outcome"], known["access"]) == (name, "enrolled", "granted")
    assert (waiting["account_id"], waiting["outcome"]) == (D, None)
    assert set(known) == set(waiting) == set(LedgerRow.__dataclass_fields__)
