"""3b. The source policy: packing and writing it for one account and for thousands."""

from statistics import median

from benchmarks.contestants import pen
from benchmarks.effort import Effort
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind, account_ids
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.timing import spent
from chalicelib.arns import AccountId
from chalicelib.pen import Pen
from chalicelib.source_policy import Moves

_SIZES = (1, 100, 1_000, 8_000)
_BATCH = 50
_LINEAR = 1.3


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure the settling of that many new accounts, in batches."""
    told = Measurement(
        f"3b. the source policy, in batches of {_BATCH}: what placing and writing takes",
        notes=["touched: shards that batches changed, added up over the batches; each is written once a batch"],
    )
    cpu: dict[int, list[float]] = {size: [] for size in _SIZES}
    for _ in range(effort.repetitions):  # in turn, since the machine may be faster at times
        for size in _SIZES:
            stub.begin(Conditions())
            cpu[size].append(_cpu(pen(), size))
    for size in _SIZES:
        stub.begin(Conditions())
        settling = pen()
        _cpu(settling, size)
        seen = stub.seen()
        named = {shard.name: shard.accounts for shard in settling.standing().shards}
        capacity = max(map(len, named.values()))
        touched = sum(
            len({number // capacity for number in range(start, min(start + _BATCH, size))})
            for start in range(0, size, _BATCH)
        )
        written = seen.policies_written.total()
        told.rows.append(
            {
                "accounts": size,
                "shards": len(named),
                "touched": touched,
                "writes in IAM": written,
                "writes / touched": written / touched,
                "calls each": seen.calls.total() / size,
                "calls a batch": seen.calls.total() / -(-size // _BATCH),
                "CPU ms each": 1000 * median(cpu[size]),
            }
        )
        told.claims.append(Claim(f"{size:,} accounts: writes of shards / shards touched", written / touched, 1))
    growth = median(many / few for many, few in zip(cpu[8_000], cpu[1_000], strict=True))
    told.claims.append(Claim("CPU an account at 8,000 / at 1,000", growth, _LINEAR))
    return [told]


def _cpu(settling: Pen, size: int) -> float:
    """Settle so many accounts, and tell the seconds of CPU an account."""
    ids = [AccountId(each) for each in account_ids(Kind.NEW, size)]
    return spent(lambda: _settle(settling, ids)).cpu / size


def _settle(settling: Pen, ids: list[AccountId]) -> None:
    for start in range(0, len(ids), _BATCH):
        joining = frozenset(ids[start : start + _BATCH])
        seen = settling.prepare(joining).seen
        settled = settling.settle(Moves(join=joining), owner="benchmark", deadline=2**40, seen=seen)
        if settled.errors:
            raise RuntimeError(settled.errors)
