"""5. API calls an account, by kind, as the stub counts them; and what throttling adds."""

from collections import Counter

from benchmarks.deployment import batch
from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.report import Cell, Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess

_BATCH = 100
_UNCHANGED = 5  # AssumeRole and four reads
_IN_THE_ACCOUNT = ("sts:", "iam:")
_ALL = {Kind.NEW: 7, Kind.UNCHANGED: 7, Kind.DRIFTED: 9}
"""Calls of a newly granted account: in the account, its row, and the mark that access is in force."""
_ONCE = 11
"""Calls of a batch and of the run of publish that follows it, if one shard changes and none of its versions has to be deleted."""


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:  # noqa: ARG001 - it takes seconds
    """Count the calls of one batch, and of the run of publish that follows it, once the first shard is there."""
    counts = {(kind, listed): _count(stub, kind, listed=listed) for kind in Kind for listed in (True, False)}
    operations = sorted({operation for each in counts.values() for operation in each})
    measured = Measurement(
        f"5. API calls an account, batches of {_BATCH} newly granted accounts, with the run of publish that follows"
    )
    for operation in operations:
        row: dict[str, Cell] = {"call": operation}
        for (kind, listed), calls in counts.items():
            row[f"{kind}, {'sweep' if listed else 'event'}"] = calls[operation] / _BATCH or None
        measured.rows.append(row)
    measured.claims += [
        Claim(f"{kind} account: calls", counts[kind, True].total() / _BATCH, _ALL[kind] + _ONCE / _BATCH)
        for kind in Kind
    ]
    in_account = sum(count for call, count in counts[Kind.UNCHANGED, True].items() if call.startswith(_IN_THE_ACCOUNT))
    measured.claims.append(Claim("unchanged account: calls of STS and IAM", round(in_account / _BATCH, 1), _UNCHANGED))
    calm, throttled = _all(stub, 0), _all(stub, 3)
    measured.claims.append(Claim("every third call throttled: calls / unthrottled", throttled / calm, 2))
    return [measured]


def _count(stub: StubProcess, kind: Kind, *, listed: bool) -> Counter[str]:
    stub.begin(Conditions(kind=kind))
    stage = functions(10)
    stage.enroll(batch(account_ids(kind, 1)))
    stage.publish()
    before = stub.seen().calls
    stage.enroll(batch(account_ids(kind, _BATCH, start=1), listed=listed))
    stage.publish()
    return stub.seen().calls - before


def _all(stub: StubProcess, throttle_every: int) -> int:
    stub.begin(Conditions(kind=Kind.NEW))
    stage = functions(64)
    stub.throttle(throttle_every)
    # A call that is throttled as often as botocore tries it brings its message back.
    stage.enroll(batch(account_ids(Kind.NEW, _BATCH)), deliveries=3)
    return stub.seen().calls.total()
