"""Changed settings in waves: a broken change stops after its first wave, and the former settings restore it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.telemetry import metrics
from tests.integration.simulation.cloud import Cloud
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.scenario import MEMBERS_ONLY
from tests.integration.simulation.simulated_stage import SimulatedStage

MEMBERS = [f"{number:012}" for number in range(1, 61)]
READ_ONLY, AUDIT, ADMINISTRATOR = (
    f"arn:aws:iam::aws:policy/{name}" for name in ("ReadOnlyAccess", "SecurityAudit", "AdministratorAccess")
)
IN_WAVES = {**MEMBERS_ONLY, "ROLLOUT_PERCENT": "10"}
BROKEN = {**IN_WAVES, "MEMBER_ROLE_POLICY_ARNS": f"{AUDIT},arn:aws:iam::{{account_id}}:policy/Missing"}
CORRECT = {**IN_WAVES, "MEMBER_ROLE_POLICY_ARNS": AUDIT}


@pytest.fixture(scope="module")
def enrolled() -> Cloud:
    """Sixty accounts, which were enrolled a day ago, one after the other."""
    with simulated() as harness:
        stage = SimulatedStage(harness, dict(MEMBERS_ONLY))
        for account_id in MEMBERS:
            stage.cloud.join(account_id)
            stage.send_events(account_id)
            stage.drain()
        stage.pause(86_400)
        stage.resync()
        return stage.cloud


@pytest.fixture
def stage(enrolled: Cloud) -> Iterator[SimulatedStage]:
    with simulated() as harness:
        yield SimulatedStage(harness, dict(MEMBERS_ONLY), copy.deepcopy(enrolled))


def _sweep(stage: SimulatedStage, request: Any = None) -> dict[str, Any]:
    stage.pause(3600)
    response: dict[str, Any] = stage.request("resync", request or {})
    return response


def _gauge(name: str) -> float:
    value: float = metrics.metric_set[name]["Value"][-1]
    return value


def _changed(stage: SimulatedStage) -> list[str]:
    """Return the accounts whose role doesn't have the former policies."""
    roles = {each: stage.cloud.iam.role(member_role_arn(each)) for each in MEMBERS}
    return [each for each, role in roles.items() if role is not None and role.attached != {READ_ONLY}]


def _with_outcome(stage: SimulatedStage, outcome: str) -> list[str]:
    return sorted(each for each, row in stage.cloud.rows().items() if row["outcome"] == outcome)


def test_broken_change_stops_after_one_wave_and_is_restored(stage: SimulatedStage) -> None:
    latest = MEMBERS[-6:]
    stage.settings = BROKEN
    for request in ({}, {"accounts": "new"}, {}):
        counts = _sweep(stage, request)["counts"]
        attention = _gauge("AccountsNeedingAttention")
        stage.drain()
        stage.request("rerun", {})
        stage.drain()

    assert _changed(stage) == latest
    assert {stage.cloud.rows()[each]["reason"] for each in latest} == {"no_such_policy"}
    assert _with_outcome(stage, "failed") == latest
    assert (counts["rollout_waiting"], attention) == (54, 60)
    planned = stage.request("backfill", {"dry_run": True})
    assert [each["account_id"] for each in planned["accounts"]] == [*latest, MANAGEMENT]
    assert planned["counts"]["rollout_waiting"] == 54

    stage.settings = IN_WAVES
    counts = _sweep(stage)["counts"]
    stage.drain()

    assert _changed(stage) == []
    assert _with_outcome(stage, "enrolled") == MEMBERS
    assert counts["rollout_waiting"] == 0
    assert all(stage.cloud.grants(each) for each in MEMBERS)


def test_next_wave_waits_until_the_one_before_is_handled(stage: SimulatedStage) -> None:
    stage.settings = CORRECT
    sent = [_sweep(stage, request)["counts"]["sent"] for request in ({"accounts": "new"}, {"accounts": "new"})]
    stage.drain()

    assert sent == [6, 6]
    assert _changed(stage) == MEMBERS[-6:]


def test_event_in_the_same_batch_delays_no_wave(stage: SimulatedStage) -> None:
    stage.settings = CORRECT
    _sweep(stage, {"accounts": "new"})
    stage.send_events(*MEMBERS[-2:])
    stage.drain()

    assert _changed(stage) == MEMBERS[-6:]


def test_each_sweep_changes_the_next_wave_until_all_are_changed(stage: SimulatedStage) -> None:
    stage.settings = CORRECT
    changed = []
    for number in range(10):
        function = "backfill" if number == 5 else "resync"
        stage.request(function, {"accounts": "new" if number % 2 else "all"})
        stage.drain()
        changed.append(_changed(stage))

    assert changed == [MEMBERS[-6 * waves :] for waves in range(1, 11)]
    assert _sweep(stage)["counts"]["rollout_waiting"] == 0
    assert _gauge("AccountsNeedingAttention") == 0


def test_rows_of_an_earlier_release_are_verified_in_waves(stage: SimulatedStage) -> None:
    for row in stage.cloud.tables.items["ledger"].values():
        row.pop("fingerprint", None)
    stage.settings = IN_WAVES
    sent = []
    for _ in range(11):
        sent.append(_sweep(stage, {"accounts": "new"})["counts"]["sent"])
        stage.drain()

    assert sent == [*[6] * 10, 0]
    assert all("fingerprint" in row for row in stage.cloud.rows().values() if row["outcome"] == "enrolled")


def test_named_account_is_changed_at_once(stage: SimulatedStage) -> None:
    stage.settings = CORRECT
    stage.request("backfill", {"accounts": [MEMBERS[0]]})
    stage.drain()

    assert _changed(stage) == MEMBERS[:1]


def _drift(stage: SimulatedStage, account_id: str) -> None:
    stage.cloud.iam.change(member_role_arn(account_id), attached=frozenset({READ_ONLY, ADMINISTRATOR}))


@pytest.mark.parametrize("settings", [CORRECT, BROKEN])
def test_drift_is_repaired_while_a_role_waits(stage: SimulatedStage, settings: dict[str, str]) -> None:
    """The repaired role is made for the current settings: the former are not known. All others stay as they are."""
    stage.settings = settings
    _sweep(stage, {"accounts": "new"})
    stage.drain()
    _drift(stage, MEMBERS[0])

    _sweep(stage)
    stage.drain()

    repaired = stage.cloud.iam.role(member_role_arn(MEMBERS[0]))
    assert repaired is not None
    assert ADMINISTRATOR not in repaired.attached
    wave = MEMBERS[-6:] if settings is BROKEN else MEMBERS[-12:]
    assert _changed(stage) == [MEMBERS[0], *wave]


def test_events_and_interrupted_passes_change_no_waiting_role(stage: SimulatedStage) -> None:
    """Events of all accounts, as of their tags, are no rollout; nor is the retry of a failure for another reason."""
    denied = MEMBERS[1]
    stage.settings = CORRECT
    stage.cloud.denied[denied] = ""
    stage.send_events(*MEMBERS[:3])
    stage.drain()
    failed = _with_outcome(stage, "failed")
    del stage.cloud.denied[denied]
    stage.pause(7200)
    stage.request("rerun", {})
    stage.drain()

    assert failed == [denied]
    assert "attempted_fingerprint" not in stage.cloud.rows()[denied]
    assert _with_outcome(stage, "enrolled") == MEMBERS
    assert _changed(stage) == []


def test_changed_name_fails_one_wave_alone(stage: SimulatedStage) -> None:
    stage.settings = IN_WAVES | {"MEMBER_ROLE_NAME": "Another"}
    _sweep(stage)
    stage.drain()

    assert _with_outcome(stage, "failed") == MEMBERS[-6:]


def test_retirement_does_not_wait_for_a_stopped_rollout(stage: SimulatedStage) -> None:
    stage.settings = BROKEN
    _sweep(stage)
    stage.drain()
    stage.cloud.members.change(MEMBERS[0], state="CLOSED")
    stage.settings = BROKEN | {"EXCLUDE_ACCOUNT_IDS": MEMBERS[1]}
    _sweep(stage, {"accounts": "new"})
    stage.request("retire", {"accounts": [MEMBERS[2]]})
    stage.drain()

    assert _with_outcome(stage, "retired") == MEMBERS[:3]
    assert not any(stage.cloud.grants(each) for each in MEMBERS[:3])
    assert stage.cloud.iam.role(member_role_arn(MEMBERS[2])) is None


def test_second_broken_change_stops_before_another_wave(stage: SimulatedStage) -> None:
    """The accounts that failed before show whether the correction works."""
    stage.settings = BROKEN
    _sweep(stage)
    stage.drain()
    stage.settings = BROKEN | {"MEMBER_ROLE_MAX_SESSION": "7200"}
    for _ in range(2):
        _sweep(stage)
        stage.drain()
    still = _changed(stage)
    stage.settings = CORRECT
    for _ in range(2):
        _sweep(stage)
        stage.drain()

    assert still == MEMBERS[-6:]
    assert _changed(stage) == MEMBERS[-12:]


def test_accounts_that_failed_before_do_not_stop_a_rollout(stage: SimulatedStage) -> None:
    denied = MEMBERS[-1]
    stage.cloud.denied[denied] = ""
    _sweep(stage)
    stage.drain()
    stage.settings = CORRECT
    for _ in range(2):
        _sweep(stage)
        stage.drain()

    assert _with_outcome(stage, "failed") == [denied]
    assert _changed(stage) == MEMBERS[-11:-1]
