"""Every relative link in a document, and every document that the code names, leads to a file and a heading."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TRACKED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.splitlines()
DOCUMENTS = [name for name in _TRACKED if name.endswith(".md") and (ROOT / name).is_file()]
SOURCES = [
    name
    for name in _TRACKED
    if name.startswith((".chalice/", "chalicelib/", "docs/", "rolecall/"))
    and name.endswith((".py", ".yaml", ".html", ".js"))
    and (ROOT / name).is_file()
]
_LINK = re.compile(r"!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_NAMED = re.compile(r"\bdocs/[\w./-]+\.(?:md|yaml|json)(?:#[\w-]+)?")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them: repeated ones end in -1, -2, …"""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", without_code(path.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return {f"{each}-{found[:index].count(each)}".removesuffix("-0") for index, each in enumerate(found)}


def is_dead(target: str, directory: Path, document: Path | None = None) -> bool:
    name, _, anchor = target.partition("#")
    path = directory / name if name else document
    if path is None or not path.exists():
        return True
    return bool(anchor) and anchor not in anchors(path)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = ["".join(groups) for groups in _LINK.findall(without_code(path.read_text()))]
    relative = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if is_dead(target, path.parent, path)] == []


def test_documents_named_in_code_exist() -> None:
    named = [(source, target) for source in SOURCES for target in _NAMED.findall((ROOT / source).read_text())]
    assert len(named) > 20
    assert [(source, target) for source, target in named if is_dead(target, ROOT)] == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One `two`, [three](b.md)\n\n## Same\n\n## Same\n\n```sh\n# no heading\n```\n")
    assert anchors(document) == {"one-two-three", "same", "same-1"}
    assert not any(is_dead(target, tmp_path, document) for target in ("a.md", "#same-1", "a.md#one-two-three"))
    assert all(is_dead(target, tmp_path, document) for target in ("b.md", "#same-2", "a.md#no-heading"))
    assert _LINK.findall('[![x](i.png)](b.md) <img src="c.png"> [d](e.md#f)') == [
        ("b.md", ""),
        ("", "c.png"),
        ("e.md#f", ""),
    ]
