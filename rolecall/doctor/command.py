"""The command `rolecall doctor`: run every check, and print its result with what fixes it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from chalicelib.arns import AccountId
from rolecall.console import output_console, print_json, print_line, print_wrapped, printable
from rolecall.doctor.checks import CHECKS, run_checks
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, CheckStatus
from rolecall.exit_status import ExitStatus
from rolecall.stage import Stage

_MARKS = {CheckStatus.OK: ("✔", "green"), CheckStatus.FAILED: ("✘", "red"), CheckStatus.UNKNOWN: ("?", "yellow")}
_EXIT_STATUSES = {
    CheckStatus.OK: ExitStatus.OK,
    CheckStatus.FAILED: ExitStatus.PROBLEM,
    CheckStatus.UNKNOWN: ExitStatus.UNKNOWN,
}
_NAME_CHARS = max(len(check.name) for check in CHECKS)


def doctor(stage: Stage, *, account: AccountId | None, as_json: bool) -> ExitStatus:
    """Run the checks, print each result at once, those that are unknown last, and return the exit status."""
    context = Context(stage, account)
    output, results = output_console(), []
    for check, result in run_checks(context):
        results.append((check, result))
        if not as_json and result.status is not CheckStatus.UNKNOWN:
            print_result(output, check.name, result)
    if as_json:
        print_json(_json(context, results))
    else:
        for name, result in grouped_unknown(results):
            print_result(output, name, result)
        counts = Counter(result.status for _, result in results)
        print_line(output, ", ".join(f"{counts[status]} {status}" for status in CheckStatus), "bold")
    return _EXIT_STATUSES[overall_status(result for _, result in results)]


def overall_status(results: Iterable[CheckResult]) -> CheckStatus:
    """Return failed if a check failed, otherwise unknown if one could not be made, otherwise ok."""
    statuses = {result.status for result in results}
    return next((each for each in (CheckStatus.FAILED, CheckStatus.UNKNOWN) if each in statuses), CheckStatus.OK)


def grouped_unknown(results: Iterable[tuple[Check, CheckResult]]) -> Iterator[tuple[str, CheckResult]]:
    """Yield the results of the checks that could not be made, one for all with the same cause, which then lists them."""
    names: dict[CheckResult, list[str]] = {}
    for check, result in results:
        if result.status is CheckStatus.UNKNOWN:
            names.setdefault(result, []).append(check.name)
    for result, same in names.items():
        if len(same) == 1:
            yield same[0], result
        else:
            yield f"{len(same)} checks", replace(result, summary=f"{result.summary}: {', '.join(same)}")


def print_result(output: Console, name: str, result: CheckResult) -> None:
    """Print the result of the check with a name on one line. On a terminal, it is wrapped, and its remedy is below it, unwrapped to be copied."""
    mark, style = _MARKS[result.status]
    prefix = Text.assemble((mark, style), " ", (f"{name:{_NAME_CHARS}}", "bold"), "  ")
    remedy = Text.assemble(("→ ", "dim"), (printable(result.remedy or ""), "cyan"))
    if output.is_interactive:
        print_wrapped(output, result.summary, prefix)
        if result.remedy is not None:
            print_line(output, Text("  ") + remedy)
    else:
        found = prefix + Text(printable(result.summary))
        print_line(output, found if result.remedy is None else found + Text(" ") + remedy)


def _json(context: Context, results: list[tuple[Check, CheckResult]]) -> dict[str, object]:
    return {
        "status": overall_status(result for _, result in results),
        "stage": context.stage.name,
        "region": context.stage.region,
        "account_id": context.account_id,
        "caller": context.caller_arn,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": [
            {"name": check.name, "status": result.status, "summary": result.summary, "remedy": result.remedy}
            for check, result in results
        ],
    }
