"""A fuzz target: how an input is read, what is done with it, and the inputs to begin with."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import RolecallError
from tests.integration.simulation.example_stages import ExampleStages
from tests.integration.simulation.members import IDS, MANAGEMENT, UNKNOWN_ACCOUNT
from tests.integration.simulation.simulated_stage import SimulatedStage

FUNCTIONS = ("backfill", "rerun", "resync", "retire", "freeze")
WORDS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**30, -(10**400), float("nan"), float("inf"), [], {}, "", "\ud800", "\0", "é" * 99),
    *(IDS[0], IDS[1], UNKNOWN_ACCOUNT, MANAGEMENT, int(IDS[0]), "000000000000", "\uff10" * 12, "1" * 13),
    *(f" {UNKNOWN_ACCOUNT}", f"{UNKNOWN_ACCOUNT}\n"),
    *("2027-01-15T08:00:00+00:00", "2027-01-15T08:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
)  # fmt: skip
"""Values for any place of any input."""


@dataclass(frozen=True)
class Target:
    """One kind of input. `run` takes the parsed JSON, or text, and raises if it has found a bug."""

    name: str
    run: Callable[[ExampleStages, Any], None]
    seeds: Callable[[], Iterable[Any]]
    words: tuple[Any, ...] = ()
    is_text: bool = False  # the input is sent as it is, JSON or not

    def __call__(self, stages: ExampleStages, data: bytes) -> None:
        """Try an input; only the body of a message may be anything but JSON."""
        text = data.decode("utf-8", "replace")
        if self.is_text:
            self.run(stages, text)
            return
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return
        self.run(stages, content)

    def encoded_seeds(self) -> list[bytes]:
        """Return the inputs to begin with."""
        return [(each if isinstance(each, str) else json.dumps(each)).encode() for each in self.seeds()]


def send_requests(stage: SimulatedStage, requests: Any, error: type[RolecallError] = RolecallError) -> None:
    """Invoke functions by `[[function, request], …]`; each returns JSON, or raises an error of this class."""
    for each in requests[:4] if isinstance(requests, list) else ():
        if isinstance(each, list) and len(each) == 2 and each[0] in FUNCTIONS:
            with suppress(error):
                json.dumps(stage.invoke(*each))


def deliver_once(stage: SimulatedStage) -> None:
    """Deliver one batch of each queue; its failures are not delivered again."""
    stage.deliver("enroll")
    stage.deliver("publish")
