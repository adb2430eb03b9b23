"""3a. A backfill of whole organizations, no faster than Organizations lists them: time, memory and calls by size."""

from benchmarks.effort import Effort
from benchmarks.handler import functions
from benchmarks.invocation import invoked
from benchmarks.report import Claim, Measurement
from benchmarks.stub.kinds import Kind
from benchmarks.stub.organizations import PAGE
from benchmarks.stub.process import Conditions, StubProcess

RATE, BURST = 8, 12
"""ListAccounts a second, and at once ("Quotas and service limits for AWS Organizations")."""

_MEGABYTES, _OF_FLOOR, _FLAT = 150, 1.2, 1.1
_SELECTIONS = {"backfill, none known": ("backfill", False), "resync, all known": ("resync", True)}


def measure(stub: StubProcess, effort: Effort) -> list[Measurement]:
    """Measure a first backfill and a daily resync, each in a process of its own, as Lambda runs them."""
    rate, burst = RATE * effort.rate_multiple, BURST * effort.rate_multiple
    told = Measurement(
        f"3a. whole organizations: listing and queueing at {effort.rate_multiple} x the documented rate of ListAccounts",
        notes=[f"floor: {PAGE} accounts a page at {rate} pages a second, {burst} at once; memory: the process's most"],
    )
    for name, (function, known) in _SELECTIONS.items():
        memory: dict[int, float] = {}
        for size in effort.sizes:
            stub.begin(
                Conditions(
                    kind=Kind.UNCHANGED if known else Kind.NEW,
                    accounts=size,
                    listing_rate=rate,
                    listing_burst=burst,
                )
            )
            functions(1)
            stub.put_rows(Kind.UNCHANGED, size if known else 0)
            before = stub.seen()
            spent = invoked(function)
            seen = stub.seen()
            floor = (size / PAGE - burst) / rate
            memory[size] = spent["megabytes"]
            told.rows.append(
                {
                    "sweep": name,
                    "accounts": size,
                    "seconds": spent["seconds"],
                    "floor": floor if floor > 0 else None,
                    "of the floor": spent["seconds"] / floor if floor > 0 else None,
                    "CPU ms each": 1000 * spent["cpu"] / size,
                    "MB": spent["megabytes"],
                    "calls each": (seen.calls - before.calls).total() / size,
                    "throttled": seen.throttled.total(),
                }
            )
        largest = max(effort.sizes)
        told.claims += [
            Claim(f"{name}, {largest:,} accounts: MB", memory[largest], _MEGABYTES),
            Claim(f"{name}: MB at {largest:,} accounts / at 5,000", memory[largest] / memory[5_000], _FLAT),
            Claim(
                f"{name}, {largest:,} accounts: seconds / floor", float(told.rows[-1]["of the floor"] or 0), _OF_FLOOR
            ),
        ]
    return [told]
