"""5. API calls for one account, by role state, with and without throttling."""

import os
from collections import Counter

from benchmarks.deployment import batch
from benchmarks.handler import functions
from benchmarks.invocation import invoke_in_subprocess
from benchmarks.profiles import Profile
from benchmarks.report import Cell, Claim, Measurement
from benchmarks.stub.organizations import TAG, TAGGED_PAGE
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.stub.role_states import RoleState, account_ids

_BATCH = 100
_TAGGED = 5_000
_CONCURRENT_BATCHES = 5  # as MaximumConcurrency; one run of publish follows them
_MAX_CALLS_IN_ACCOUNT = 5  # AssumeRole and four reads
_IN_THE_ACCOUNT = ("sts:", "iam:")
_MAX_CALLS = {RoleState.NEW: 6, RoleState.UNCHANGED: 6, RoleState.DRIFTED: 8}
"""The limit for one account: its calls in the account and on its row. `_PER_BATCH` is added for each batch."""
_PER_BATCH = 11


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:  # noqa: ARG001 - it takes seconds in any profile
    """Count the calls of batches of newly granted accounts and of the run of publish after them."""
    measured = Measurement(f"5. API calls, batches of {_BATCH} newly granted accounts")
    enrolled: dict[tuple[RoleState, bool], Counter[str]] = {}
    published: dict[RoleState, Counter[str]] = {}
    for role_state in RoleState:
        for listed in (True, False):
            enrolled[role_state, listed], published[role_state] = _count(stub, role_state, listed=listed)
    for operation in sorted({operation for each in (*enrolled.values(), *published.values()) for operation in each}):
        row: dict[str, Cell] = {"call": operation}
        for (role_state, listed), calls in enrolled.items():
            row[f"{role_state}, {'sweep' if listed else 'event'}, each"] = calls[operation] / _BATCH or None
        row["publish, a run"] = published[RoleState.NEW][operation] or None
        measured.rows.append(row)
    for role_state in RoleState:
        each = (
            _CONCURRENT_BATCHES * enrolled[role_state, True].total()
            + published[role_state].total()
            + (_CONCURRENT_BATCHES - 1) * _BATCH
        ) / (_CONCURRENT_BATCHES * _BATCH)
        about = f"{role_state} account, {_CONCURRENT_BATCHES} batches and one run: calls, less one for the mark that access is in force"
        measured.claims.append(Claim(about, each - 1, _MAX_CALLS[role_state] + _PER_BATCH / _BATCH))
    in_account = sum(
        count for call, count in enrolled[RoleState.UNCHANGED, True].items() if call.startswith(_IN_THE_ACCOUNT)
    )
    measured.claims.append(
        Claim("unchanged account: calls of STS and IAM", round(in_account / _BATCH, 1), _MAX_CALLS_IN_ACCOUNT)
    )
    normal, throttled = _total(stub, 0), _total(stub, 3)
    measured.claims.append(Claim("every third call throttled: calls / unthrottled", throttled / normal, 2))
    return [measured, _selected_by_tag(stub)]


def _selected_by_tag(stub: StubProcess) -> Measurement:
    """Count the calls that selecting accounts by tag adds to sweeps and to a batch of what they send."""
    measured = Measurement(f"5b. API calls, {_TAGGED:,} accounts selected by tag")
    selections: dict[str, dict[str, str]] = {"all": {}, "by tag": {"INCLUDE_TAGS": f"{TAG['Key']}={TAG['Value']}"}}
    counted: dict[tuple[str, str], int] = {}
    for name, settings in selections.items():
        os.environ.update(settings)
        stub.reset(Conditions(role_state=RoleState.UNCHANGED, accounts=_TAGGED))
        stage = functions(10)
        for step in ("backfill", "resync", "batch"):
            before = stub.counts().calls
            if step == "batch":
                tags = {TAG["Key"]: TAG["Value"]} if settings else None
                stage.enroll(batch(account_ids(RoleState.UNCHANGED, _BATCH), tags=tags))
            else:
                invoke_in_subprocess(step)
            counted[name, step] = (stub.counts().calls - before).total()
        for setting in settings:
            del os.environ[setting]
    for step, limit in (("backfill", _TAGGED / TAGGED_PAGE), ("resync", _TAGGED / TAGGED_PAGE), ("batch", 0)):
        row: dict[str, Cell] = {"step": step, **{name: counted[name, step] for name in selections}}
        measured.rows.append(row)
        more = counted["by tag", step] - counted["all", step]
        measured.claims.append(Claim(f"{step}: calls for the tags", more, limit))
    return measured


def _count(stub: StubProcess, role_state: RoleState, *, listed: bool) -> tuple[Counter[str], Counter[str]]:
    """Return the calls of one batch and of the run of publish after it; the first shard exists already."""
    stub.reset(Conditions(role_state=role_state))
    stage = functions(10)
    stage.enroll(batch(account_ids(role_state, 1)))
    stage.publish()
    before = stub.counts().calls
    stage.enroll(batch(account_ids(role_state, _BATCH, start=1), listed=listed))
    enrolled = stub.counts().calls
    stage.publish()
    return enrolled - before, stub.counts().calls - enrolled


def _total(stub: StubProcess, throttle_every: int) -> int:
    stub.reset(Conditions(role_state=RoleState.NEW))
    stage = functions(64)
    stub.throttle(throttle_every)
    # A call that is throttled at each attempt returns its message to the queue.
    stage.enroll(batch(account_ids(RoleState.NEW, _BATCH)), deliveries=3)
    return stub.counts().calls.total()
