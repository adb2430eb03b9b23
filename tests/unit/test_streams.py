"""What standard output gets: whole lines in a pipe, and text that its encoding can represent."""

import io
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table

from rolecall.console import output_console, print_page, print_text
from rolecall.exit_status import ExitStatus
from rolecall.follow_page import progress_display
from rolecall.streams import replace_unencodable

DOCUMENT = Path(__file__).parents[2] / "docs" / "requests.md"
NAME = "x" * 300


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"COLUMNS": "40"}])
def test_piped_page_is_not_cut(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    table = Table("account", "name", box=None)
    table.add_row("111122223333", NAME)
    print_page(table)
    with progress_display(output_console()):
        pass  # A bar would be in the output.
    output = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line.split() for line in output.splitlines()] == [["account", "name"], ["111122223333", NAME]]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "✔ Søren █░ → ✘ 日 ?"),
        ("latin-1", "+ Søren #. -> x \\u65e5 ?"),
        ("ascii", "+ S\\xf8ren #. -> x \\u65e5 ?"),
    ],
)
def test_characters_that_the_encoding_lacks_are_replaced(
    encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
    replace_unencodable()
    print_text("✔ Søren █░ → ✘ 日 ?")
    sys.stdout.flush()
    assert output.getvalue().decode(encoding) == written


def test_document_has_every_exit_status() -> None:
    table = DOCUMENT.read_text().partition("| status | means |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == [str(status.value) for status in ExitStatus]
