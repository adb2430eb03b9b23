"""Waves: which roles a sweep changes, and that no schedule of sweeps and passes changes more at a time."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Access, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role, fingerprint, is_made_for
from chalicelib.rollout import Rollout, awaits_wave, wave_size
from tests.unit.builders import EXAMPLES, EXTRA, MEMBER, settings
from tests.unit.ledger_rows import NOW, account, numbered, row

IN_WAVES = settings(ROLLOUT_PERCENT="10")
CURRENT = fingerprint(IN_WAVES)


def enrolled(number: int, made_for: str | None = "former", **more: Any) -> LedgerRow:
    """Build the row of a role; a higher number was enrolled later."""
    return row(numbered(number), fingerprint=made_for, enrolled_at=f"2026-03-01T10:{number:02}:00.000000+00:00", **more)


def rejected(number: int, *, hours: float = 7.0, reason: Reason = Reason.NO_SUCH_POLICY) -> LedgerRow:
    return replace(
        enrolled(number, outcome=Outcome.FAILED),
        reason=reason,
        attempted_fingerprint=CURRENT,
        updated_at=(NOW - timedelta(hours=hours)).isoformat(),
    )


def rollout_of(rows: Iterable[LedgerRow], percent: int = 10, ineligible: Reason | None = None) -> Rollout:
    rollout = Rollout(CURRENT, percent)
    for each in rows:
        rollout.count(account(each.account_id), each, ineligible, NOW)
    return rollout


def wave_of(rows: Iterable[LedgerRow], percent: int = 10) -> list[AccountId]:
    return [each.id for each in rollout_of(rows, percent).wave()]


def test_latest_enrolled_are_changed_first() -> None:
    assert wave_of(enrolled(number) for number in (3, 1, 2, 4)) == [numbered(4)]
    assert wave_of((enrolled(number) for number in (3, 1, 2, 4)), percent=50) == [numbered(4), numbered(3)]


@pytest.mark.parametrize(("roles", "percent", "size"), [(60, 10, 6), (59, 10, 5), (3, 10, 1), (0, 10, 1), (7, 99, 6)])
def test_wave_is_a_share_of_all_roles_and_at_least_one(roles: int, percent: int, size: int) -> None:
    assert wave_size(roles, percent) == size


def test_share_is_of_all_roles_whatever_is_left() -> None:
    rows = [*(enrolled(number, CURRENT) for number in range(20, 50)), *(enrolled(number) for number in range(10))]
    rollout = rollout_of(rows)
    assert (rollout.current, rollout.outdated, rollout.total, rollout.waiting) == (30, 10, 40, 6)
    assert [each.id for each in rollout.wave()] == [numbered(number) for number in (9, 8, 7, 6)]


def test_role_of_an_earlier_release_is_outdated() -> None:
    assert wave_of([enrolled(1, made_for=None)]) == [numbered(1)]


@pytest.mark.parametrize(("hours", "reason"), [(7, Reason.NO_SUCH_POLICY), (7, Reason.THROTTLED)])
def test_failed_change_stops_the_rollout(hours: float, reason: Reason) -> None:
    rollout = rollout_of([enrolled(1), rejected(2, hours=hours, reason=reason)])
    assert (rollout.wave(), rollout.waiting, rollout.is_stopped) == ([], 1, True)
    assert rollout.failed == {reason: 1}


def test_rollout_waits_for_a_retry_without_being_stopped() -> None:
    rollout = rollout_of([enrolled(1), rejected(2, hours=1, reason=Reason.THROTTLED)])
    assert (rollout.wave(), rollout.is_stopped) == ([], False)


def test_failure_after_the_last_wave_stops_nothing() -> None:
    assert not rollout_of([enrolled(1, CURRENT), rejected(2)]).is_stopped


def test_other_failures_and_ineligible_accounts_do_not_count() -> None:
    failing = row(numbered(2), Outcome.FAILED, reason=Reason.SCP_DENIED, fingerprint="former")
    assert wave_of([enrolled(1), failing, row(numbered(3), Outcome.SKIPPED, fingerprint="former")]) == [numbered(1)]
    assert rollout_of([enrolled(1), rejected(2)], ineligible=Reason.SUSPENDED).total == 0


def test_nothing_waits_without_waves() -> None:
    rollout = Rollout.to(settings())
    assert not rollout.count(account(numbered(1)), enrolled(1), None, NOW)
    assert (rollout.total, rollout.wave()) == (0, [])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_fingerprint_differs_with_the_member_role_alone(name: str) -> None:
    of_the_role = {
        *("MEMBER_ROLE_NAME", "MEMBER_ROLE_POLICY_ARNS", "DENY_DATA_READS", "MEMBER_ROLE_MAX_SESSION"),
        *(
            "MEMBER_ROLE_POLICIES",
            "DENY_DATA_READS_EXCEPT",
            "PERMISSIONS_BOUNDARY_ARN",
            "EXTERNAL_ID",
            "MEMBER_ROLE_TAGS",
        ),
    }
    changed = fingerprint(settings(**{name: EXAMPLES[name][0]}))
    assert (changed != CURRENT) is (name in of_the_role)


def test_fingerprint_ignores_the_order_of_settings() -> None:
    one, other = "arn:aws:iam::111122223333:role/A", "arn:aws:iam::111122223333:role/B"
    first, second = (
        fingerprint(settings(SOURCE_PRINCIPAL_ARNS=arns, MEMBER_ROLE_TAGS=tags))
        for arns, tags in ((f"{one},{other}", "a=1,b=2"), (f"{other},{one}", "b=2,a=1"))
    )
    assert first == second


@pytest.mark.parametrize("name", [None, *sorted(EXAMPLES)])
def test_role_is_as_it_was_made_until_it_is_changed(name: str | None) -> None:
    made_for = settings(**({name: EXAMPLES[name][0]} if name else {}))
    observed = desired_role(made_for, MEMBER, "o-exampleorgid")
    digest = fingerprint(made_for)

    assert is_made_for(replace(observed, tags={**observed.tags, "cost": "center"}), digest)
    for drift in (
        {"attached": observed.attached | {"arn:aws:iam::aws:policy/AdministratorAccess"}},
        {"inline": {**observed.inline, "Theirs": Document(EXTRA)}},
        {"trust": Document("{}")},
        {"max_session": observed.max_session - 1},
        {"boundary": f"arn:aws:iam::{MEMBER}:policy/Theirs"},
    ):
        assert not is_made_for(replace(observed, **drift), digest)


def test_fingerprint_of_another_form_shows_no_change() -> None:
    assert is_made_for(desired_role(IN_WAVES, MEMBER), "0123456789ab")


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (enrolled(1, access=Access.GRANTED), True),
        (enrolled(1, made_for=None, access=Access.GRANTED), True),
        (enrolled(1, outcome=Outcome.FAILED, access=Access.GRANTED), True),
        (enrolled(1, made_for=None, outcome=Outcome.FAILED, access=Access.GRANTED), False),
        (replace(rejected(1), access=Access.GRANTED), False),
        (enrolled(1, CURRENT, access=Access.GRANTED), False),
        (enrolled(1, outcome=Outcome.SKIPPED, access=Access.EXCLUDED), False),
        (None, False),
    ],
)
def test_only_roles_of_other_settings_are_left_to_a_wave(found: LedgerRow | None, *, waits: bool) -> None:
    assert awaits_wave(found, IN_WAVES, CURRENT) is waits
    assert not awaits_wave(found, settings(), CURRENT)


class _World:
    """Roles of which some are broken by the change; sweeps read rows, and send accounts some time later."""

    def __init__(self, broken: frozenset[int], percent: int) -> None:
        self.rows = {numbered(number): enrolled(number) for number in range(12)}
        self.broken, self.percent = {numbered(number) for number in broken}, percent
        self.read: list[list[AccountId]] = []
        self.queue: list[AccountId] = []

    @property
    def changing(self) -> set[AccountId]:
        """The accounts with a message, whose role is outdated or failed."""
        done = {each for each, found in self.rows.items() if found.fingerprint == CURRENT}
        failed = {each for each, found in self.rows.items() if found.outcome is Outcome.FAILED}
        return (set(self.queue) | failed) - done

    def sweep(self, _: int) -> None:
        self.read.append(wave_of(self.rows.values(), self.percent))

    def send(self, choice: int) -> None:
        if self.read:
            self.queue += self.read.pop(choice % len(self.read))

    def handle(self, choice: int) -> None:
        if self.queue:
            each = self.queue.pop(choice % len(self.queue))
            number = int(each)
            if self.rows[each].fingerprint != CURRENT:
                self.rows[each] = rejected(number) if each in self.broken else enrolled(number, CURRENT)

    def repair(self, choice: int) -> None:
        """Correct the cause in one account, and rerun it."""
        failed = [each for each, found in self.rows.items() if found.outcome is Outcome.FAILED]
        if failed:
            self.broken.remove(failed[choice % len(failed)])
            self.rows[failed[choice % len(failed)]] = enrolled(int(failed[choice % len(failed)]), CURRENT)

    def lose(self, choice: int) -> None:
        if self.queue:
            self.queue.pop(choice % len(self.queue))

    def finish(self) -> None:
        while self.read or self.queue:
            self.send(0)
            self.handle(0)


_ACTS = (_World.sweep, _World.send, _World.handle, _World.handle, _World.lose, _World.repair)


@given(
    broken=st.frozensets(st.integers(0, 11), max_size=3),
    percent=st.integers(1, 99),
    acts=st.lists(st.tuples(st.sampled_from(_ACTS), st.integers(0, 99)), max_size=60),
)
def test_no_schedule_changes_more_roles_at_a_time(
    broken: frozenset[int], percent: int, acts: list[tuple[object, int]]
) -> None:
    """However sweeps and messages are scheduled, at most a wave is unsettled, and in the end all are changed."""
    world = _World(broken, percent)
    for act, choice in acts:
        act(world, choice)  # type: ignore[operator]
        assert len(world.changing) <= wave_size(12, percent)
    for _ in range(12):
        world.finish()
        world.sweep(0)
    world.finish()
    failed = [each for each, found in world.rows.items() if found.outcome is Outcome.FAILED]
    if world.broken:
        assert 1 <= len(failed) <= wave_size(12, percent)
        assert wave_of(world.rows.values(), percent) == []
    else:
        assert {found.fingerprint for found in world.rows.values()} == {CURRENT}
