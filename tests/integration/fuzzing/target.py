"""What a fuzz target is: how an input is read, what is done with it, and what inputs to begin with."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from chalicelib.bootstrap import Application, checked_settings
from chalicelib.documents import Document
from chalicelib.errors import RolecallError
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import parse
from chalicelib.source_policy.records import ShardContent
from tests.integration.simulation.boundary import Boundary
from tests.integration.simulation.changes import IDS, STRANGER
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.one_fault import Stage
from tests.integration.simulation.strangers import Strangers

FUNCTIONS = ("backfill", "rerun", "resync", "retire", "freeze")
WORDS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**30, -(10**400), float("nan"), float("inf"), [], {}, "", "\ud800", "\0", "é" * 99),
    *(IDS[0], IDS[1], STRANGER, MANAGEMENT, int(IDS[0]), "000000000000", "\uff10" * 12, "1" * 13, f" {STRANGER}", f"{STRANGER}\n"),
    *("2027-01-15T08:00:00+00:00", "2027-01-15T08:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
)  # fmt: skip
"""What may stand in any place of any input."""


@dataclass(frozen=True)
class World:
    """What the inputs reach; a test of the targets has its own, with a bug in one of them."""

    boundary: Boundary
    kind: type[Application] = Application
    read_settings: Callable[[Mapping[str, str]], Settings] = checked_settings
    parse: Callable[[Document, Settings, str], ShardContent | None] = parse
    strangers: Strangers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strangers", Strangers(self.boundary, self.kind))


class Run(Protocol):
    """Does with one input what is to be tried; raises if it has found something."""

    def __call__(self, world: World, content: Any, /) -> None:
        """Take what the input's JSON says."""


@dataclass(frozen=True)
class Target:
    """One of the ways into Rolecall."""

    name: str
    run: Run
    seeds: Callable[[], Iterable[Any]]
    words: tuple[Any, ...] = ()
    is_text: bool = False  # the input is what is sent, JSON or not

    def __call__(self, world: World, data: bytes) -> None:
        """Try an input; nothing that isn't JSON reaches a function but as the body of a message."""
        text = data.decode("utf-8", "replace")
        if self.is_text:
            self.run(world, text)
            return
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return
        self.run(world, content)

    def written_seeds(self) -> list[bytes]:
        """Write the inputs to begin with."""
        return [(each if isinstance(each, str) else json.dumps(each)).encode() for each in self.seeds()]


def ask(stage: Stage, asked: Any) -> None:
    """Have some functions asked one after the other, as `[[function, request], …]` says; each answers with JSON, or refuses."""
    for each in asked[:4] if isinstance(asked, list) else ():
        if isinstance(each, list) and len(each) == 2 and each[0] in FUNCTIONS:
            with suppress(RolecallError):
                json.dumps(stage.invoke(*each))


def work_once(stage: Stage) -> None:
    """Have each queue delivered once: what returns to it would only come again."""
    stage.deliver("enroll")
    stage.deliver("publish")
