"""5. API calls an account, by kind, as the stub counts them; and what throttling adds."""

from collections import Counter

from benchmarks.deployment import batch
from benchmarks.effort import Effort
from benchmarks.handler import enroll_function
from benchmarks.report import Cell, Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess

_BATCH = 100
_UNCHANGED = 5  # AssumeRole and four reads
_IN_THE_ACCOUNT = ("sts:", "iam:")


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:  # noqa: ARG001 - it takes seconds
    """Count the calls of one batch, once the source policy's first shard is there."""
    counts = {(kind, listed): _count(stub, kind, listed=listed) for kind in Kind for listed in (True, False)}
    operations = sorted({operation for each in counts.values() for operation in each})
    told = Measurement(f"5. API calls an account, batches of {_BATCH}")
    for operation in operations:
        row: dict[str, Cell] = {"call": operation}
        for (kind, listed), calls in counts.items():
            row[f"{kind}, {'sweep' if listed else 'event'}"] = calls[operation] / _BATCH or None
        told.rows.append(row)
    in_account = sum(count for call, count in counts[Kind.UNCHANGED, True].items() if call.startswith(_IN_THE_ACCOUNT))
    told.claims.append(Claim("unchanged account: calls of STS and IAM", round(in_account / _BATCH, 1), _UNCHANGED))
    calm, throttled = _all(stub, 0), _all(stub, 3)
    told.claims.append(Claim("every third call throttled: calls / unthrottled", throttled / calm, 2))
    return [told]


def _count(stub: StubProcess, kind: Kind, *, listed: bool) -> Counter[str]:
    stub.begin(Conditions(kind=kind))
    enroll = enroll_function(10)
    enroll(batch(account_ids(kind, 1)))
    before = stub.seen().calls
    enroll(batch(account_ids(kind, _BATCH, start=1), listed=listed))
    return stub.seen().calls - before


def _all(stub: StubProcess, throttle_every: int) -> int:
    stub.begin(Conditions(kind=Kind.NEW, throttle_every=throttle_every))
    # A call that is throttled as often as botocore tries it brings its message back.
    enroll_function(64)(batch(account_ids(Kind.NEW, _BATCH)), deliveries=3)
    return stub.seen().calls.total()
