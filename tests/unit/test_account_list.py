"""Which accounts are listed, and how: as lines, a table, JSON or CSV, with any name."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, cast

import pytest
from rich.console import Console

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem
from rolecall.accounts import COLUMNS, Entry, Filter, parse_account_id, parse_filter, read_ou_paths, select
from rolecall.accounts_page import entry_lines, entry_table, print_entries, write_csv
from rolecall.console import printable
from rolecall.errors import CommandError
from rolecall.organization_units import Unit
from tests.unit.builders import settings
from tests.unit.ledger_rows import account, records, row
from tests.unit.operated import OperatedStage

A, B, C, D = (AccountId(str(digit) * 12) for digit in range(1, 5))
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


@pytest.mark.parametrize("text", ["", "12", "prod-one", "1111111111111", "\uff11" * 12])
def test_invalid_account_id_is_rejected(text: str) -> None:
    with pytest.raises(CommandError, match="expected twelve digits"):
        parse_account_id(text)


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


def test_json_and_csv_are_mutually_exclusive() -> None:
    with pytest.raises(CommandError, match="--json and --csv"):
        print_entries([], as_json=True, as_csv=True)


def test_lines_are_aligned_and_not_cut() -> None:
    long = "x" * 500
    entries = [entry("prod-one"), Entry(account_id=B, name="b", row=row(B, error=long)), NEW]
    assert list(entry_lines(entries)) == [
        "account       name      outcome   reason  change  enrolled          in force          updated           error",
        "111111111111  prod-one  enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00",
        f"222222222222  b         enrolled          none    2026-03-01 10:00  2026-03-01 10:00  2026-03-01 10:00  {long}",
        "444444444444  new       waiting",
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

    print_entries([entry(name), NEW], as_json=True, as_csv=False)
    known, new = json.loads(capsys.readouterr().out)
    assert (known["name"], known["outcome"], known["access"]) == (name, "enrolled", "granted")
    assert (new["account_id"], new["outcome"]) == (D, None)
    assert set(known) == set(new) == set(LedgerRow.__dataclass_fields__)


class NestedStage(OperatedStage):
    """A stage whose organization has an account in nested organizational units, and one below the root."""

    def accounts(self) -> list[Account]:
        return [account("444455556666", ou_ids=("ou-top", "ou-low")), account("555566667777")]

    def units(self) -> dict[str, Unit]:
        named = {"r-root": "Root", "ou-top": "Workloads", "ou-low": "Production"}
        return {each: Unit(id=each, name=name, parent=None) for each, name in named.items()}


def test_ou_path_has_the_names_below_the_root() -> None:
    assert read_ou_paths(cast("Any", NestedStage())) == {"444455556666": "Workloads/Production", "555566667777": ""}
