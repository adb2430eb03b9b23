"""A deployed stage in memory: its responses are prepared, and its rows and records change at each pause."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from rich.console import Console

from chalicelib.accounts import Account, LedgerRow
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.errors import CommandError
from rolecall.operation import Operation
from rolecall.organization_units import Unit
from rolecall.stage import DEAD_LETTER_QUEUES, WORK_QUEUES, QueueCounts
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, records


@dataclass
class OperatedStage:
    """Returns or raises each of `responses` once; at each pause the next of `steps` changes rows, and of `published` the records."""

    responses: Iterable[Mapping[str, Any] | CommandError] = ()
    listed: Iterable[AccountId] = ()
    ledger: Iterable[LedgerRow] = ()
    steps: Iterable[Iterable[LedgerRow] | BaseException] = ()
    recorded: Records = field(default_factory=records)
    published: Iterable[Records] = ()
    queued: int = 1
    name: str = "dev"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0
    settings: Settings = field(default_factory=settings)

    def __post_init__(self) -> None:
        self._rows = {row.account_id: row for row in self.ledger}
        self._responses: Iterator[Mapping[str, Any] | CommandError] = iter(self.responses)
        self._steps: Iterator[Iterable[LedgerRow] | BaseException] = iter(self.steps)
        self._published = iter(self.published)

    def accounts(self) -> list[Account]:
        return [
            Account(id=each, name=f"Account {each}", state="ACTIVE", joined_at=NOW, ou_ids=("ou-all",))
            for each in self.listed
        ]

    def units(self) -> dict[str, Unit]:
        return {each: Unit(id=each, name=each, parent=None) for each in ("ou-all", "ou-empty")}

    def account(self, account_id: AccountId) -> Account | None:
        return next((each for each in self.accounts() if each.id == account_id), None)

    def rows(self) -> list[LedgerRow]:
        return list(self._rows.values())

    def rows_of(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        return {each: self._rows[each] for each in account_ids if each in self._rows}

    def records(self) -> Records:
        return self.recorded

    def queues(self) -> list[QueueCounts]:
        dead = [QueueCounts(name=name, visible=7, in_flight=0, delayed=0) for name in DEAD_LETTER_QUEUES]
        work = [QueueCounts(name=name, visible=0, in_flight=0, delayed=self.queued) for name in WORK_QUEUES]
        return [*work, *dead]

    def invoke(self, function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append((function, dict(request)))
        response = next(self._responses)
        if isinstance(response, CommandError):
            raise response
        return dict(response)

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        step = next(self._steps, ())
        if isinstance(step, BaseException):
            raise step
        self._rows |= {row.account_id: row for row in step}
        self.recorded = next(self._published, self.recorded)

    def clock(self) -> float:
        return self.seconds


@dataclass
class Prompt:
    """Answers every question in the same way, and records it."""

    answer: bool
    questions: list[str] = field(default_factory=list)

    def __call__(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer


class Ran(NamedTuple):
    """The exit status of a command, and the lines that it printed."""

    status: int
    lines: list[str]


def run(
    command: Callable[..., int],
    stage: OperatedStage,
    *arguments: Any,
    wait: bool = True,
    yes: bool = False,
    timeout: float = 3600.0,
    prompt: Callable[[str], bool] | None = None,
    **options: Any,
) -> Ran:
    """Run a command in a pipe."""
    out = io.StringIO()
    operation = operation_on(stage, out, wait=wait, yes=yes, timeout=timeout, prompt=prompt)
    status = command(operation, *arguments, **options)
    return Ran(status, out.getvalue().splitlines())


def operation_on(stage: OperatedStage, out: io.StringIO | None = None, **options: Any) -> Operation:
    """Return an operation on a stage, with its clock and pauses."""
    return Operation(
        stage=cast("Any", stage),
        console=Console(file=out or io.StringIO(), width=1000),
        now=lambda: NOW,
        clock=stage.clock,
        pause=stage.pause,
        **options,
    )


def sent(count: int, deferred: int = 0, **counts: Any) -> dict[str, Any]:
    """Build the response to a request that sent so many accounts."""
    counts = {"sent": count, "deferred": deferred, **counts}
    return {"counts": counts, "accounts": [], "source_policy": [], "next": None}


def dry_run(account_id: AccountId) -> dict[str, Any]:
    """Build the response to a dry run that would retire an account."""
    account: dict[str, Any] = {"outcome": "retired", "change": "none", "reason": None, "error": None, "actions": []}
    shard = {"policy_name": "Access", "accounts": 0, "capacity": 9, "granted": [], "revoked": [account_id]}
    return {
        "accounts": [{"account_id": account_id, **account}],
        "source_policy": [{**shard, "error": None}],
        "counts": {},
        "next": None,
    }
