"""The generated sections of docs/: python -m docs.generate."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs import generate
from docs.generate import Permission, grouped, out_of_date

ROOT = Path(__file__).parents[2]
READ, SEND, WRITE = (Permission(f"`sqs:{name}`", "the queue", "") for name in ("Read", "Send", "Write"))


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    for name in generate.SECTIONS:
        shutil.copy(ROOT / "docs" / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"), [("settings.md", "`3600`"), ("permissions.md", "`iam:GetRole`"), ("failures.md", "[quota]")]
)
def test_edited_section_is_found_and_rewritten(documents: Path, name: str, content: str) -> None:
    text = (documents / name).read_text()
    (documents / name).write_text("# Another title\n" + text.replace(content, "edited", 1))

    assert out_of_date(documents, write=False) == [name]
    assert out_of_date(documents, write=True) == [name]

    assert (documents / name).read_text() == "# Another title\n" + text
    assert out_of_date(documents, write=False) == []


def test_document_without_a_generated_section_is_an_error(documents: Path) -> None:
    (documents / "settings.md").write_text("# Settings\n")
    with pytest.raises(SystemExit, match=r"docs/settings\.md has no generated section"):
        out_of_date(documents, write=True)


def test_check_succeeds_and_writes_nothing() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_shared_permissions_are_listed_once() -> None:
    allowed = {"one": [READ, SEND], "two": [SEND, WRITE, READ], "three": [READ]}

    sections = dict(grouped(allowed, ("one", "two")))

    assert sections == {"Every function": [READ], "one, two": [SEND], "two": [WRITE]}


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ({"Action": "sqs:SendMessage", "Resource": {"Fn::GetAtt": ["NewQueue", "Arn"]}}, "NewQueue"),
        ({"Action": "sqs:SendMessage", "Resource": "*", "OnlyIf": "SomethingIsSet"}, "SomethingIsSet"),
        ({"Action": "sqs:SendMessage", "Resource": "*", "Condition": {"Bool": {"x": "true"}}}, "Bool"),
    ],
)
def test_statement_that_has_no_words_is_an_error(statement: dict[str, object], missing: str) -> None:
    with pytest.raises(SystemExit, match=missing):
        generate._permission(statement)


def test_texts_of_the_template_and_the_code_become_markdown() -> None:
    text = "Set AdoptExistingRoles=true (docs/runbook.md#a-freeze-isnt-in-force) | rolecall rerun, {account_id}."
    assert generate._linked(text) == (
        "Set `AdoptExistingRoles=true` ([runbook.md](runbook.md#a-freeze-isnt-in-force)) | `rolecall rerun`, `{account_id}`."
    )
    assert generate._table(("a",), [("b|c",)]) == "| a |\n|---|\n| b\\|c |\n"
