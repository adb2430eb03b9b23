"""A shard's record covers the policy in IAM, wherever a write stops."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.errors import Reason, RetryableError, TerminalError
from chalicelib.settings import Settings
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.documents import document, parse
from chalicelib.source_policy.plan import Action, CreatePolicy, SourcePolicy, WriteVersion
from chalicelib.source_policy.records import ShardContent, ShardRecord
from tests.unit.applied_plans import policy_after
from tests.unit.builders import FORMER, ORGANIZATION_ID, READER, settings
from tests.unit.ledger_rows import NOW, SHARD, numbered_set, shard_contents

ACCOUNTS = tuple(sorted(numbered_set(1, 2, 3)))
SETTINGS = tuple(settings(SOURCE_PRINCIPAL_ARNS=arns) for arns in (READER, FORMER, f"{READER},{FORMER}"))

DONE, REJECTED, THROTTLED, TIMEOUT, KILLED = "done", "rejected", "throttled", "timeout after the write", "killed"


class KilledError(Exception):
    """The function is killed."""


class FakeAws:
    """IAM, the source-policy table and the run lease, in memory; `outcomes` are those of the next IAM calls, then `done`."""

    def __init__(self) -> None:
        self.policy: SourcePolicy | None = None
        self.record = ShardRecord(name=SHARD)
        self.written = 0
        self.keeps_lease = False
        self.outcomes: Iterator[str] = iter(())

    def write_shard(self, record: ShardRecord) -> None:
        self.record = record

    def carry_out(self, name: str, action: Action) -> str | None:
        outcome = next(self.outcomes, DONE)
        if outcome == KILLED:
            raise KilledError
        if outcome == REJECTED:
            raise TerminalError(Reason.REJECTED, "rejected")
        if outcome == THROTTLED:
            raise RetryableError(Reason.THROTTLED, "throttled")
        if self.policy is None and not isinstance(action, CreatePolicy):
            raise RetryableError(Reason.STALE_READ, "no such policy")
        version_id = None
        if isinstance(action, CreatePolicy | WriteVersion):
            self.written += 1
            version_id = f"v{self.written}"
        if isinstance(action, CreatePolicy) and self.policy is not None:
            action = WriteVersion(action.document)  # as IamPolicies does with a policy of this stage
        policy = policy_after(self.policy, name, [action])
        assert policy is not None
        self.policy = replace(policy, version_id=version_id or policy.version_id)
        if outcome == TIMEOUT:
            raise RetryableError(Reason.SERVICE_ERROR, "timed out")
        return version_id

    def observe(self, _: str) -> SourcePolicy | None:
        return self.policy

    def owned(self, _: str) -> SourcePolicy | None:
        return None  # IAM's reads may not show a new policy yet.

    def hold(self) -> None:
        pass

    def keep(self) -> None:
        self.keeps_lease = True

    def writer(self, config: Settings) -> ShardWriter:
        fake: Any = self
        writer = ShardWriter(config, ORGANIZATION_ID, fake, fake, fake, lambda: NOW)
        writer.records = {0: self.record}
        return writer

    @property
    def content(self) -> ShardContent | None:
        """The content of the policy in IAM."""
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


contents = shard_contents(st.frozensets(st.sampled_from(ACCOUNTS)))
outcomes = st.lists(st.sampled_from([DONE, REJECTED, THROTTLED, TIMEOUT, KILLED]), max_size=3)
FREEZES = (NOW, NOW + timedelta(hours=1))  # requests, instead of a content to write
runs = st.tuples(st.sampled_from(SETTINGS), contents | st.sampled_from(FREEZES), outcomes)


Run: TypeAlias = tuple[Settings, ShardContent | datetime, list[str]]


def aws_after(earlier: list[Run]) -> FakeAws:
    """Return AWS after these runs; the record covers IAM after each."""
    aws = FakeAws()
    for config, content, outcome in earlier:
        aws.outcomes = iter(outcome)
        run(aws.writer(config), content)
        aws.check()
    aws.outcomes = iter(())
    return aws


@hypothesis_settings(max_examples=150)
@given(st.lists(runs, max_size=6), st.sampled_from(SETTINGS), contents)
def test_record_covers_iam_wherever_a_write_stops(earlier: list[Run], config: Settings, content: ShardContent) -> None:
    aws = aws_after(earlier)

    run(aws.writer(config), content)

    aws.check()
    record = aws.record
    assert (record.applying, record.unfinished, record.error) == (None, (), None)
    assert record.applied is not None
    assert record.applied.content == aws.content == content
    assert aws.policy is not None
    assert record.applied.attached == aws.policy.attached == {each.arn for each in config.attachable_principals}
    assert record.applied.version_id == aws.policy.version_id
    assert not aws.writer(config).differs(0, content, rewrite=True)


def test_principal_of_changed_settings_is_recorded_before_it_is_attached() -> None:
    frozen: list[Run] = [(SETTINGS[0], ShardContent(), []), (SETTINGS[0], FREEZES[0], [])]

    aws = aws_after([*frozen, (SETTINGS[1], FREEZES[0], [])])

    assert aws.policy is not None
    assert aws.policy.attached == aws.record.attached == {READER, FORMER}


def run(writer: ShardWriter, content: ShardContent | datetime) -> None:
    try:
        if isinstance(content, datetime):
            writer.freeze(content)
        else:
            writer.write(0, content)
    except KilledError:
        pass


def detached(policy: SourcePolicy) -> SourcePolicy:
    return replace(policy, attached=frozenset())


def edited(policy: SourcePolicy) -> SourcePolicy:
    return replace(policy, document=document(settings(), ShardContent(), ORGANIZATION_ID))


@pytest.mark.parametrize("change", [lambda policy: policy, detached, edited, lambda _: None])
@given(st.lists(runs, max_size=4))
def test_freeze_denies_whatever_is_recorded(
    change: Callable[[SourcePolicy], SourcePolicy | None], earlier: list[Run]
) -> None:
    aws = aws_after(earlier)
    if aws.policy is not None:
        aws.policy = change(aws.policy)
    was_written = aws.policy is not None or bool(aws.record.versions)

    aws.writer(SETTINGS[0]).freeze(FREEZES[-1] + timedelta(hours=1))

    assert aws.record.is_frozen is was_written
    if was_written:
        assert aws.policy is not None
        assert aws.content is not None
        assert aws.content.frozen
        assert aws.record.denied_principals == aws.policy.attached
        assert aws.policy.attached >= {principal.arn for principal in SETTINGS[0].attachable_principals}


@pytest.mark.parametrize(
    ("outcome", "must_retry", "error"),
    [(REJECTED, False, Reason.REJECTED), (THROTTLED, True, None), (TIMEOUT, True, None)],
)
def test_only_a_transient_error_retries_the_run(outcome: str, must_retry: bool, error: Reason | None) -> None:
    aws = FakeAws()
    aws.outcomes = iter([outcome])
    writer = aws.writer(SETTINGS[0])

    writer.write(0, ShardContent(accounts=frozenset(ACCOUNTS)))

    assert (writer.must_retry, writer.failed) == (must_retry, {0})
    assert aws.keeps_lease is (outcome == TIMEOUT)
    assert (aws.record.error and aws.record.error.reason) == error
