"""The estimate: its arithmetic, its page and its JSON. Other tests hold its counts, sizes and resources."""

import json

import pytest
from typer.testing import CliRunner

from rolecall import prices
from rolecall.cli import app
from rolecall.cost import DAYS, HOURS, UNKNOWN, estimate

RUNNER = CliRunner()


def units(accounts: int, per_day: int = 0) -> dict[tuple[str, str], float]:
    return {(line.price.service, line.what): line.units for line in estimate(accounts, per_day).lines}


def test_total_is_the_sum_of_units_times_prices() -> None:
    found = estimate(300, 2)
    assert found.dollars == pytest.approx(sum(line.units * line.price.dollars / line.price.per for line in found.lines))
    assert {line.price for line in found.lines} == set(prices.ALL)


@pytest.mark.parametrize("service", prices.Service)
def test_more_accounts_cost_at_least_as_much(service: prices.Service) -> None:
    def dollars(accounts: int, per_day: int) -> float:
        return sum(line.dollars for line in estimate(accounts, per_day).lines if line.price.service is service)

    assert dollars(100, 0) <= dollars(1_000, 0) <= dollars(9_000, 0) <= dollars(9_000, 50) <= dollars(50_000, 50)


def test_each_account_is_read_hourly_and_written_daily() -> None:
    few, more = units(5_000), units(6_000)
    assert more["DynamoDB", "writes"] - few["DynamoDB", "writes"] == pytest.approx(1_000 * DAYS)
    # Each hour its row alone, and in five scans, in which six rows take a read request unit; each day twice more.
    per_account = (more["DynamoDB", "reads"] - few["DynamoDB", "reads"]) / 1_000
    assert per_account == pytest.approx(HOURS * (1 + 5 / 6.3) + DAYS * 2, rel=0.05)


def test_new_account_has_an_event_a_batch_and_a_run_of_publish() -> None:
    without, with_new = units(100), units(100, 10)
    new = 10 * DAYS
    # Its row changes twice, in which the second change is announced.
    assert with_new["Lambda", "invocations"] - without["Lambda", "invocations"] == pytest.approx(5 * new)
    assert with_new["EventBridge", "announcements"] == pytest.approx(new)
    assert with_new["SQS", "publish queue"] - without["SQS", "publish queue"] == pytest.approx(3 * new)


def test_scope_organization_records_no_accounts() -> None:
    assert units(9_551, 1)["DynamoDB", "writes"] < units(9_550, 1)["DynamoDB", "writes"]


def test_page_shows_charges_total_date_and_what_is_missing() -> None:
    ran = RUNNER.invoke(app, ["cost", "--accounts", "300", "--per-day", "2"])
    assert ran.exit_code == 0
    first, *lines = ran.output.splitlines()
    total = estimate(300, 2).dollars
    assert first == f"300 accounts, 2 new a day: about ${total:.2f} a month"
    assert ["CloudWatch", "dashboard", "1", "dashboard", "3.00"] in [line.split() for line in lines]
    assert [line.split() for line in lines if line.startswith("total")] == [["total", f"{total:.2f}"]]
    assert f"Prices of us-east-1, as of {prices.DATE}; docs/cost.md links AWS's pages." in lines
    assert [f"- {each}" for each in UNKNOWN] == lines[-len(UNKNOWN) :]


def test_json_has_every_charge() -> None:
    data = json.loads(RUNNER.invoke(app, ["cost", "--accounts", "1", "--json"]).output)
    assert (data["accounts"], data["per_day"], data["region"], data["prices_of"]) == (1, 0, "us-east-1", prices.DATE)
    assert data["dollars_per_month"] == pytest.approx(sum(each["dollars"] for each in data["charges"]), abs=0.01)
    assert {each["service"] for each in data["charges"]} == set(prices.Service)
    assert data["not_included"] == list(UNKNOWN)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--accounts", "0"], ["--accounts", "5", "--per-day", "-1"], ["--accounts", "5", "--per-day", "nan"]],
)
def test_numbers_are_required_and_checked(arguments: list[str]) -> None:
    assert RUNNER.invoke(app, ["cost", *arguments]).exit_code == 2
