"""The log lines of a stage: which are shown, how, and that following one loses and repeats none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

import pytest
import typer

from chalicelib.arns import AccountId
from rolecall.durations import parse_duration
from rolecall.logs import LogLine, follow_log, read_log

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
ONE = AccountId("1" * 12)
HOUR = timedelta(hours=1)


def line(second: int, message: str = "enrolled", function: str = "enroll") -> LogLine:
    return LogLine(at=START + timedelta(seconds=second), function=function, fields={"message": message})


class LoggingStage:
    """A stage whose enroll and publish have written lines."""

    def log_lines(self, function: str, pattern: str, *, since: timedelta) -> Iterator[tuple[datetime, dict[str, Any]]]:
        assert since == HOUR
        lines: dict[str, list[tuple[int, dict[str, Any]]]] = {
            "enroll": [
                (3, {"message": "enrolled", "account_id": ONE}),
                (1, {"message": "enrolled", "account_id": "2" * 12}),
                (0, {"_aws": {}, "AccountsEnrolled": [1.0]}),
            ],
            "publish": [(2, {"message": "publish"})],
        }
        for second, fields in lines.get(function, []):
            if not pattern or fields.get("account_id") in pattern.split('"'):
                yield START + timedelta(seconds=second), fields


def test_lines_of_all_functions_are_in_order_and_without_metrics() -> None:
    found = read_log(cast("Any", LoggingStage()), None, HOUR)
    assert [(each.function, each.fields["message"]) for each in found] == [
        ("enroll", "enrolled"),
        ("publish", "publish"),
        ("enroll", "enrolled"),
    ]
    (own,) = read_log(cast("Any", LoggingStage()), ONE, HOUR)
    assert own.as_json() == {
        "at": "2026-03-01T10:00:03+00:00",
        "function": "enroll",
        "message": "enrolled",
        "account_id": ONE,
    }


def test_line_has_what_differs_from_line_to_line() -> None:
    fields = {
        "level": "ERROR",
        "location": "x",
        "message": "failed\x1b",
        "service": "s",
        "reason": "quota",
        "error": None,
    }
    text = LogLine(at=START, function="enroll", fields=fields).as_text()
    assert (str(text), text.style) == ("2026-03-01 10:00:00 enroll ERROR failed\\x1b reason=quota", "red")


def test_following_neither_repeats_nor_loses_lines() -> None:
    """CloudWatch Logs returns the second line only after the third."""
    first, late, third, last = (line(second) for second in (0, 50, 60, 500))
    reads = iter([[first], [first, third], [first, late, third], [last]])
    clock = [START + timedelta(seconds=10)]
    asked: list[tuple[datetime, timedelta]] = []

    def read(period: timedelta) -> list[LogLine]:
        asked.append((clock[0], period))
        return [each for each in next(reads) if each.at >= clock[0] - period]

    def pause(_: float) -> None:
        clock[0] += timedelta(seconds=50 if len(asked) < 3 else 400)

    found = list(islice(follow_log(read, HOUR, lambda: clock[0], pause), 4))

    assert found == [first, third, late, last]
    assert asked[0][1] == HOUR
    assert asked[-1][1] <= timedelta(seconds=500)


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90s", timedelta(seconds=90)), ("30m", HOUR / 2), ("2h", HOUR * 2), ("7d", timedelta(days=7))],
)
def test_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "h", "5", "-1h", "1w", "1.5h", "1h30m"])
def test_other_duration_is_rejected(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number and s, m, h or d, such as 30m"):
        parse_duration(text)
