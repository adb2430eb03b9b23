"""A deployed stage in memory: its answers are prepared, and its rows and records change at each pause."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from rich.console import Console

from chalicelib.accounts import Account, LedgerRow
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.errors import CommandError
from rolecall.operation import Operation
from rolecall.stage import DEAD_LETTER_QUEUES, WORK_QUEUES, Queue
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, records


@dataclass
class OperatedStage:
    """Holds rows and records; at each pause, the next of `steps` changes rows, and the next of `published` is what records become.

    Each of `answers` is returned once, or raised.
    """

    answers: Iterable[Mapping[str, Any] | CommandError] = ()
    listed: Iterable[AccountId] = ()
    held: Iterable[LedgerRow] = ()
    steps: Iterable[Iterable[LedgerRow] | BaseException] = ()
    recorded: Records = field(default_factory=records)
    published: Iterable[Records] = ()
    queued: int = 1
    name: str = "dev"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0
    settings: Settings = field(default_factory=settings)

    def __post_init__(self) -> None:
        self._rows = {row.account_id: row for row in self.held}
        self._answers: Iterator[Mapping[str, Any] | CommandError] = iter(self.answers)
        self._steps: Iterator[Iterable[LedgerRow] | BaseException] = iter(self.steps)
        self._published = iter(self.published)

    def accounts(self) -> list[Account]:
        return [
            Account(id=each, name=f"Account {each}", state="ACTIVE", joined_at=NOW, ou_ids=("ou-all",))
            for each in self.listed
        ]

    def account(self, account_id: AccountId) -> Account | None:
        return next((each for each in self.accounts() if each.id == account_id), None)

    def rows(self) -> list[LedgerRow]:
        return list(self._rows.values())

    def rows_of(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        return {each: self._rows[each] for each in account_ids if each in self._rows}

    def records(self) -> Records:
        return self.recorded

    def queues(self) -> list[Queue]:
        dead = [Queue(name=name, visible=7, in_flight=0, delayed=0) for name in DEAD_LETTER_QUEUES]
        work = [Queue(name=name, visible=0, in_flight=0, delayed=self.queued) for name in WORK_QUEUES]
        return [*work, *dead]

    def invoke(self, function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append((function, dict(request)))
        answer = next(self._answers)
        if isinstance(answer, CommandError):
            raise answer
        return dict(answer)

    # What changes during a pause.

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        step = next(self._steps, ())
        if isinstance(step, BaseException):
            raise step
        self._rows |= {row.account_id: row for row in step}
        self.recorded = next(self._published, self.recorded)

    def clock(self) -> float:
        return self.seconds


def operation(stage: OperatedStage, **more: Any) -> tuple[Operation, io.StringIO]:
    """Build an operation whose output is piped, and return it with what it prints."""
    printed = io.StringIO()
    made = Operation(
        stage=cast("Any", stage),
        console=Console(file=printed, width=80),
        now=lambda: NOW,
        clock=stage.clock,
        pause=stage.pause,
        **more,
    )
    return made, printed


def sent(count: int, deferred: int = 0) -> dict[str, Any]:
    return {"counts": {"sent": count, "deferred": deferred}, "accounts": [], "source_policy": [], "next": None}
