"""The log lines of a stage's functions, of all accounts or of one, as they are now or as they are written."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.text import Text

from chalicelib.arns import AccountId
from rolecall.console import printable
from rolecall.stage import FUNCTIONS, Stage

_LATE = timedelta(minutes=1)  # CloudWatch Logs may return lines so much later than they were written
_POLL_SECONDS = 5.0
_OMITTED = frozenset(
    {
        *("timestamp", "level", "message", "location", "service", "cold_start", "xray_trace_id", "sampling_rate"),
        *("function_name", "function_arn", "function_memory_size"),
    }
)
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A structured line of a function's log, with the time of CloudWatch Logs."""

    at: datetime
    function: str
    fields: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the line as JSON data."""
        return {"at": self.at.isoformat(), "function": self.function, **self.fields}

    def as_text(self) -> Text:
        """Return the time, the function and the message, then the fields that differ from line to line."""
        level = str(self.fields.get("level", ""))
        fields = [
            f"{name}={value}" for name, value in self.fields.items() if name not in _OMITTED and value is not None
        ]
        words = [f"{self.at:%Y-%m-%d %H:%M:%S}", self.function, level, str(self.fields.get("message", "")), *fields]
        return Text(printable(" ".join(words)), _STYLES.get(level, ""))


def read_log(stage: Stage, account_id: AccountId | None, since: timedelta) -> list[LogLine]:
    """Return the lines of all functions, or those about one account, oldest first."""
    pattern = f'{{ $.account_id = "{account_id}" }}' if account_id else ""
    found = [
        LogLine(at=at, function=function, fields=fields)
        for function in FUNCTIONS
        for at, fields in stage.log_lines(function, pattern, since=since)
        if "message" in fields and account_id in {None, fields.get("account_id")}  # others are metrics
    ]
    return sorted(found, key=lambda line: line.at)


def follow_log(
    read: Callable[[timedelta], Iterable[LogLine]],
    since: timedelta,
    now: Callable[[], datetime],
    pause: Callable[[float], None],
) -> Iterator[LogLine]:
    """Yield the lines, then each new one, without an end; lines that CloudWatch Logs returns late are not lost."""
    known: set[tuple[datetime, str, str]] = set()
    start = now() - since
    while True:
        began = now()
        for line in read(began - start):
            key = (line.at, line.function, repr(line.fields))
            if key not in known:
                known.add(key)
                yield line
        start = max(start, began - _LATE)
        known = {key for key in known if key[0] >= start}
        pause(_POLL_SECONDS)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
