"""Refuse the words that STYLE.md retires, in names and texts of every tracked file: python .ci/retired_words.py [FILE …]."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_READ = {".py", ".md", ".yaml", ".yml", ".toml", ".html", ".js", ".css", ".json", ".txt", ".sh", ""}
# CHANGELOG.md contains former names.
_EXEMPT = (
    "STYLE.md",
    "tests/unit/test_retired_words.py",
    "CHANGELOG.md",
    "LICENSE",
    "tests/events/",
    "verify/reviewed_data_reads.json",  # names of AWS's actions
    "rolecall/iam_actions.txt",
    ".chalice/requirements",
)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def retired_words(style: str) -> list[str]:
    """Return the words and phrases in the first column of STYLE.md's last table."""
    table = style.split("## Retired words")[1]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    return [word for cell in cells for word in cell.split(", ")]


def found_in(text: str, words: list[str]) -> list[tuple[int, str]]:
    """Return each use of a retired word with its line number; snake_case and CamelCase names are split into words."""
    alternatives = "|".join(words).replace(" ", "[ -]")
    pattern = re.compile(rf"\b({alternatives})\b", re.IGNORECASE)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        split = _CAMEL_CASE.sub(" ", line).replace("_", " ")
        found += [(number, match[1]) for match in pattern.finditer(split)]
    return found


def main(named: list[str]) -> int:
    """Print every use of a retired word, and return 1 if there is one."""
    words = retired_words((ROOT / "STYLE.md").read_text())
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count = 0
    for name in named or listed.stdout.splitlines():
        path = ROOT / name
        if name.startswith(_EXEMPT) or path.suffix not in _READ or not path.is_file():
            continue
        for number, word in [(0, word) for _, word in found_in(name, words)] + found_in(path.read_text(), words):
            print(f"{name}:{number}: {word!r} is retired: see STYLE.md")
            count += 1
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
