"""A shard's record covers what IAM says, wherever a write of it stops."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.errors import Reason, RetryableError, TerminalError
from chalicelib.settings import Scope, Settings
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.documents import parse
from chalicelib.source_policy.plan import Action, CreatePolicy, SourcePolicy, WriteVersion
from chalicelib.source_policy.records import ShardContent, ShardRecord
from tests.unit.applied_plans import policy_after
from tests.unit.builders import SOURCE, settings

NAME = "CrossAccountReadOnlyAccess"
ORGANIZATION_ID = "o-abcdefghij"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ACCOUNTS = tuple(AccountId(f"{number:012}") for number in (1, 2, 3))
READER, FORMER = (f"arn:aws:iam::{SOURCE}:role/{name}" for name in ("Reader", "Former"))
SETTINGS = tuple(settings(SOURCE_PRINCIPAL_ARNS=arns) for arns in (READER, FORMER, f"{READER},{FORMER}"))

DONE, REFUSED, THROTTLED, LOST, STOPPED = "done", "refused", "throttled", "answer lost", "stopped"


class StoppedError(Exception):
    """The function was stopped."""


class Stored:
    """IAM and the source-policy table in memory; `outcomes` are those of the next calls of IAM, `done` after the last."""

    def __init__(self) -> None:
        self.policy: SourcePolicy | None = None
        self.record = ShardRecord(name=NAME)
        self.written = 0
        self.keeps_lease = False
        self.outcomes: Iterator[str] = iter(())

    def write_shard(self, record: ShardRecord) -> None:
        self.record = record

    def carry_out(self, name: str, action: Action) -> str | None:
        outcome = next(self.outcomes, DONE)
        if outcome == STOPPED:
            raise StoppedError
        if outcome == REFUSED:
            raise TerminalError(Reason.REJECTED, "refused")
        if outcome == THROTTLED:
            raise RetryableError(Reason.THROTTLED, "throttled")
        version_id = None
        if isinstance(action, CreatePolicy | WriteVersion):
            self.written += 1
            version_id = f"v{self.written}"
        if isinstance(action, CreatePolicy) and self.policy is not None:
            action = WriteVersion(action.document)  # as the adapter does with a policy of this stage
        policy = policy_after(self.policy, name, [action])
        assert policy is not None
        self.policy = replace(policy, version_id=version_id or policy.version_id)
        if outcome == LOST:
            raise RetryableError(Reason.SERVICE_ERROR, "timed out")
        return version_id

    def observe(self, _: str) -> SourcePolicy | None:
        return self.policy

    def owned(self, _: str) -> SourcePolicy | None:
        # A policy that was created a moment ago may not be shown yet.
        return None

    # The lease, which nothing ends here.

    def hold(self) -> None:
        pass

    def keep(self) -> None:
        self.keeps_lease = True

    def writer(self, held: Settings) -> ShardWriter:
        here: Any = self
        writer = ShardWriter(held, ORGANIZATION_ID, here, here, here, lambda: NOW)
        writer.records = {0: self.record}
        return writer

    @property
    def content(self) -> ShardContent | None:
        """What IAM says."""
        if self.policy is None or self.policy.document is None:
            return None
        return parse(self.policy.document, settings(), ORGANIZATION_ID)

    def check(self) -> None:
        content, versions = self.content, self.record.versions
        attached = self.policy.attached if self.policy else frozenset[str]()
        assert content is not None or self.policy is None
        assert attached <= self.record.attached
        for account_id in ACCOUNTS if content else ():
            assert content is not None
            grants = [version.content.grants(account_id) for version in versions]
            assert any(grants) or not content.grants(account_id)
            assert content.grants(account_id) or self.record.applied is None or not all(grants)
        if self.record.applied is not None:
            assert frozenset.intersection(*(version.attached for version in versions)) <= attached
        if self.record.is_frozen and content is not None:
            assert content.frozen
        if self.record.denied_principals:
            assert content is not None
            assert content.frozen


some_accounts = st.frozensets(st.sampled_from(ACCOUNTS))
contents = st.builds(ShardContent, accounts=some_accounts, frozen=st.booleans()) | st.builds(
    ShardContent, excluded=some_accounts, scope=st.just(Scope.ORGANIZATION), frozen=st.booleans()
)
outcomes = st.lists(st.sampled_from([DONE, REFUSED, THROTTLED, LOST, STOPPED]), max_size=3)
FREEZE = None
runs = st.tuples(st.sampled_from(SETTINGS), contents | st.just(FREEZE), outcomes)


@hypothesis_settings(max_examples=150)
@given(st.lists(runs, max_size=6), st.sampled_from(SETTINGS), contents)
def test_a_record_covers_iam_wherever_a_write_stops(
    given_runs: list[tuple[Settings, ShardContent | None, list[str]]], held: Settings, content: ShardContent
) -> None:
    stored = Stored()
    for used, wanted, outcome in given_runs:
        stored.outcomes = iter(outcome)
        run(stored.writer(used), wanted)
        stored.check()

    stored.outcomes = iter(())
    run(stored.writer(held), content)

    stored.check()
    record = stored.record
    assert (record.applying, record.unfinished, record.error) == (None, (), None)
    assert record.applied is not None
    assert record.applied.content == stored.content == content
    assert stored.policy is not None
    assert record.applied.attached == stored.policy.attached == {each.arn for each in held.attachable_principals}
    assert record.applied.version_id == stored.policy.version_id
    assert not stored.writer(held).differs(0, content, rewrite=True)


def run(writer: ShardWriter, wanted: ShardContent | None) -> None:
    try:
        if wanted is None:
            writer.freeze()
        else:
            writer.write(0, wanted)
    except StoppedError:
        pass


@given(st.lists(runs, max_size=4))
def test_a_freeze_denies_whatever_was_unfinished(
    given_runs: list[tuple[Settings, ShardContent | None, list[str]]],
) -> None:
    stored = Stored()
    for used, wanted, outcome in given_runs:
        stored.outcomes = iter(outcome)
        run(stored.writer(used), wanted)

    stored.outcomes = iter(())
    stored.writer(SETTINGS[0]).freeze()

    stored.check()
    assert stored.record.is_frozen is bool(stored.record.versions)
    if stored.policy is not None:
        assert stored.content is not None
        assert stored.content.frozen
        assert stored.record.denied_principals == stored.policy.attached


@pytest.mark.parametrize(
    ("outcome", "must_retry", "error"), [(REFUSED, False, Reason.REJECTED), (THROTTLED, True, None), (LOST, True, None)]
)
def test_only_a_transient_error_has_the_run_retried(outcome: str, must_retry: bool, error: Reason | None) -> None:
    stored = Stored()
    stored.outcomes = iter([outcome])
    writer = stored.writer(SETTINGS[0])

    writer.write(0, ShardContent(accounts=frozenset(ACCOUNTS)))

    assert (writer.must_retry, writer.failed) == (must_retry, {0})
    assert stored.keeps_lease is (outcome == LOST)
    assert (stored.record.error and stored.record.error.reason) == error
