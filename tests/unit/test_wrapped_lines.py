"""Lines on a terminal are wrapped at words, with indentation, and have no blanks at their ends."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from rolecall.console import label_grid, print_columns, print_indented
from rolecall.deployed_settings import DeployedSetting, print_settings

ARN = "arn:aws:iam::111122223333:role/a-role-whose-name-is-longer-than-a-line"


def console(width: int = 40) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, color_system=None)


def lines(out: Console) -> list[str]:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("a sentence that is longer than one line is", ["a sentence that is longer than one line", "  is"]),
        ("  + words that are as long as a line and on", ["  + words that are as long as a line and", "    on"]),
        ("  name    what it is about, in some words", ["  name    what it is about, in some", "          words"]),
        (f"  role {ARN} exists", ["  role", f"    {ARN}", "    exists"]),
        (Text(f"  aws iam get-role {ARN} --query Role", no_wrap=True), [f"  aws iam get-role {ARN} --query Role"]),
        ("a\x1b[31mred\nword", [r"a\x1b[31mred\nword"]),
    ],
)
def test_line_is_wrapped_at_words_below_its_text(line: str | Text, printed: list[str]) -> None:
    out = console()
    print_indented(out, line)
    assert lines(out) == printed


def test_wrapped_line_keeps_its_styles() -> None:
    out = Console(file=io.StringIO(), width=12, highlight=False, color_system="standard", force_terminal=True)
    print_indented(out, Text.assemble("  ", ("green words", "green"), " end"), "bold")
    assert lines(out) == [
        "\x1b[1m  \x1b[0m\x1b[1;32mgreen\x1b[0m",
        "    \x1b[1;32mwords\x1b[0m",
        "    \x1b[1mend\x1b[0m",
    ]


def test_columns_end_without_blanks() -> None:
    out = console()
    print_columns(out, label_grid([("a", "short"), ("label", "words " * 10)]))
    assert lines(out) == ["a      short", f"label  {'words ' * 4}words", f"       {'words ' * 4}words"]


def test_setting_is_wrapped_below_its_value() -> None:
    names = DeployedSetting(name="Names", value="One,Two,Three,Four", default="", description="")
    out = console(20)
    print_settings([names, DeployedSetting(name="Threads", value="10", default="10", description="")], out)
    assert lines(out) == [
        "* Names    One, Two,",
        "           Three,",
        "           Four",
        "           (default:",
        "           none)",
        "  Threads  10",
    ]
