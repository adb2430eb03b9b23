"""Merging of exported profiles into an AWS config that has others, too."""

import re
import shlex
from itertools import takewhile
from pathlib import Path

from rolecall.errors import CommandError
from rolecall.files import change_file

_SECTION = re.compile(rb"\s*\[(.+?)\]")
_MARK = re.compile(rb"# (>>>|<<<) rolecall [a-z0-9-]+\s*")


def merge_profiles(path: Path, stage: str, profiles: str, *, private: bool = False) -> None:
    """Write a stage's profiles between its marked lines in an AWS config, or at the end of one that has none.

    Everything outside of the marked lines stays byte for byte, and the file keeps its permissions; a new private file is readable
    by its owner alone. Raise CommandError if the marked lines are incomplete, if a profile of the same name is outside of them,
    or if the file can't be written.
    """
    change_file(path, lambda old: _merged(path, stage, profiles.encode(), old), private=private)


def _merged(path: Path, stage: str, profiles: bytes, old: bytes) -> bytes:
    # Only the line breaks that parsers of AWS configs know: bytes have no others.
    lines = old.splitlines(keepends=True)
    begin, end = f"# >>> rolecall {stage}".encode(), f"# <<< rolecall {stage}".encode()
    marks = [(number, line.rstrip()) for number, line in enumerate(lines) if _MARK.fullmatch(line)]
    own = [(number, mark) for number, mark in marks if mark in {begin, end}]
    if not own:
        before, after = [*lines, *_gap(lines)], []
    elif [mark for _, mark in own] == [begin, end] and marks.index(own[1]) == marks.index(own[0]) + 1:
        before, after = lines[: own[0][0]], lines[own[1][0] + 1 :]
    else:
        raise CommandError(
            f"{path} must have the line {begin.decode()!r} once and {end.decode()!r} once below it, without other marks between "
            f"them, or neither: correct line {own[0][0] + 1}"
        )
    _check_section(path, after, first_line=len(lines) - len(after) + 1)
    _check_names(path, stage, {*_profile_names(before), *_profile_names(after)}, profiles)
    return b"".join([*before, begin, b"\n", profiles, end, b"\n", *after])


def _gap(lines: list[bytes]) -> list[bytes]:
    """Return what separates the lines of a file from what is appended: the end of the last line, and an empty line."""
    if not lines:
        return []
    end = [] if lines[-1].endswith((b"\n", b"\r")) else [b"\n"]
    return [*end, b"\n"] if lines[-1].strip() else end


def _check_section(path: Path, after: list[bytes], *, first_line: int) -> None:
    """Raise CommandError if the lines after the marked ones would belong to the last profile between them."""
    skipped = len(list(takewhile(lambda line: not line.strip() or line.lstrip()[:1] in {b"#", b";"}, after)))
    if after[skipped:] and not _SECTION.match(after[skipped]):
        raise CommandError(
            f"line {first_line + skipped} of {path} follows rolecall's marked lines without a section of its own: move it to its "
            "section"
        )


def _check_names(path: Path, stage: str, others: set[str], profiles: bytes) -> None:
    taken = [name for name in _profile_names(profiles.splitlines()) if name in others]
    if taken:
        raise CommandError(
            f"{path} has a profile {taken[0]} outside of the lines that rolecall marked for stage {stage}: rename or delete it, pass "
            "--names ids, or export to a file of its own"
        )


def _profile_names(lines: list[bytes]) -> list[str]:
    found = []
    for line in lines:
        section = _SECTION.match(line)
        words = _words(section[1].decode(errors="replace")) if section else []
        if len(words) == 2 and words[0] == "profile":  # noqa: PLR2004 - the keyword and the name
            found.append(words[1])
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
