"""5. API calls an account, by kind, as the stub counts them; and what throttling adds."""

from collections import Counter

from benchmarks.deployment import batch
from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.report import Cell, Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess

_BATCH = 100
_AT_ONCE = 5  # batches; what one run of publish follows in a burst (MaximumConcurrency)
_UNCHANGED = 5  # AssumeRole and four reads
_IN_THE_ACCOUNT = ("sts:", "iam:")
_BEFORE = {Kind.NEW: 6, Kind.UNCHANGED: 6, Kind.DRIFTED: 8}
"""Calls in the account and on its row; before publish was a function, a batch made `_ONCE` more."""
_ONCE = 11


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:  # noqa: ARG001 - it takes seconds
    """Count the calls of batches of newly granted accounts, and of the run of publish that follows them."""
    measured = Measurement(f"5. API calls, batches of {_BATCH} newly granted accounts")
    enrolled: dict[tuple[Kind, bool], Counter[str]] = {}
    published: dict[Kind, Counter[str]] = {}
    for kind in Kind:
        for listed in (True, False):
            enrolled[kind, listed], published[kind] = _count(stub, kind, listed=listed)
    for operation in sorted({operation for each in (*enrolled.values(), *published.values()) for operation in each}):
        row: dict[str, Cell] = {"call": operation}
        for (kind, listed), calls in enrolled.items():
            row[f"{kind}, {'sweep' if listed else 'event'}, each"] = calls[operation] / _BATCH or None
        row["publish, a run"] = published[Kind.NEW][operation] or None
        measured.rows.append(row)
    for kind in Kind:
        each = (_AT_ONCE * enrolled[kind, True].total() + published[kind].total() + (_AT_ONCE - 1) * _BATCH) / (
            _AT_ONCE * _BATCH
        )
        about = f"{kind} account, {_AT_ONCE} batches and one run: calls, less one for the mark that access is in force"
        measured.claims.append(Claim(about, each - 1, _BEFORE[kind] + _ONCE / _BATCH))
    in_account = sum(
        count for call, count in enrolled[Kind.UNCHANGED, True].items() if call.startswith(_IN_THE_ACCOUNT)
    )
    measured.claims.append(Claim("unchanged account: calls of STS and IAM", round(in_account / _BATCH, 1), _UNCHANGED))
    calm, throttled = _all(stub, 0), _all(stub, 3)
    measured.claims.append(Claim("every third call throttled: calls / unthrottled", throttled / calm, 2))
    return [measured]


def _count(stub: StubProcess, kind: Kind, *, listed: bool) -> tuple[Counter[str], Counter[str]]:
    """Return the calls of one batch, and those of the run of publish that follows it, once the first shard is there."""
    stub.begin(Conditions(kind=kind))
    stage = functions(10)
    stage.enroll(batch(account_ids(kind, 1)))
    stage.publish()
    before = stub.seen().calls
    stage.enroll(batch(account_ids(kind, _BATCH, start=1), listed=listed))
    enrolled = stub.seen().calls
    stage.publish()
    return enrolled - before, stub.seen().calls - enrolled


def _all(stub: StubProcess, throttle_every: int) -> int:
    stub.begin(Conditions(kind=Kind.NEW))
    stage = functions(64)
    stub.throttle(throttle_every)
    # A call that is throttled as often as botocore tries it brings its message back.
    stage.enroll(batch(account_ids(Kind.NEW, _BATCH)), deliveries=3)
    return stub.seen().calls.total()
