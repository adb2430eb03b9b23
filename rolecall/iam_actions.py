"""AWS's actions, and which of them only read: the list that verify/iam_actions.py writes."""

import fnmatch
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Actions(NamedTuple):
    """Actions that only read, and all others: what writes, tags, manages permissions or creates credentials."""

    reads: tuple[str, ...]
    others: tuple[str, ...]


def matching(pattern: str) -> Actions:
    """Return the known actions that a policy's action, which may have wildcards, matches; IAM ignores the case."""
    service, _, name = pattern.lower().partition(":")
    known = [_known()[service]] if service in _known() else list(_known().values()) if pattern == "*" else []
    is_meant = re.compile(fnmatch.translate(name or "*")).match
    return Actions(
        tuple(action for each in known for action in each.reads if is_meant(action.partition(":")[2].lower())),
        tuple(action for each in known for action in each.others if is_meant(action.partition(":")[2].lower())),
    )


@cache
def _known() -> dict[str, Actions]:
    """Return the actions of each service."""
    services = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        service, _, names = line.partition(": ")
        reads, others = (tuple(f"{service}:{name}" for name in part.split()) for part in names.split("|"))
        services[service.lower()] = Actions(reads, others)
    return services
