"""3a. Sweeps of whole organizations at the rate of ListAccounts: time, memory and calls by size."""

from benchmarks.handler import functions
from benchmarks.invocation import invoke_in_subprocess
from benchmarks.profiles import Profile
from benchmarks.report import Cell, Claim, Measurement
from benchmarks.stub.organizations import PAGE
from benchmarks.stub.process import Conditions, StubProcess
from benchmarks.stub.role_states import RoleState

RATE, BURST = 8, 12
"""The rate per second and the burst of ListAccounts ("Quotas and service limits for AWS Organizations")."""

_MAX_MEGABYTES, _MAX_FLOOR_RATIO, _MAX_GROWTH = 150, 1.2, 1.1
_SELECTIONS = {"backfill, none known": ("backfill", False), "resync, all known": ("resync", True)}


def measure(stub: StubProcess, profile: Profile) -> list[Measurement]:
    """Measure a first backfill and a daily resync, each in a new process, as Lambda runs them."""
    rate, burst = RATE * profile.rate_factor, BURST * profile.rate_factor
    measured = Measurement(
        f"3a. whole organizations: listing and queueing at {profile.rate_factor} x the documented rate of ListAccounts",
        notes=[f"floor: {PAGE} accounts a page at {rate} pages a second, {burst} at once; memory: the process's peak"],
    )
    for name, (function, known) in _SELECTIONS.items():
        for size in profile.organization_sizes:
            role_state = RoleState.UNCHANGED if known else RoleState.NEW
            stub.reset(Conditions(role_state=role_state, accounts=size, listing_rate=rate, listing_burst=burst))
            functions(1)
            stub.put_rows(role_state, size if known else 0)
            measured.rows.append({"sweep": name, "accounts": size, **_sweep(stub, function, size, rate, burst)})
        rows = {row["accounts"]: row for row in measured.rows if row["sweep"] == name}
        memory = {size: float(row["MB"] or 0) for size, row in rows.items()}
        largest = max(profile.organization_sizes)
        measured.claims += [
            Claim(f"{name}, {largest:,} accounts: MB", memory[largest], _MAX_MEGABYTES),
            Claim(f"{name}: MB at {largest:,} accounts / at 5,000", memory[largest] / memory[5_000], _MAX_GROWTH),
            Claim(
                f"{name}, {largest:,} accounts: seconds / floor",
                float(rows[largest]["of the floor"] or 0),
                _MAX_FLOOR_RATIO,
            ),
        ]
    return [measured]


def _sweep(stub: StubProcess, function: str, size: int, rate: int, burst: int) -> dict[str, Cell]:
    before = stub.counts()
    used = invoke_in_subprocess(function)
    after = stub.counts()
    floor = (size / PAGE - burst) / rate
    return {
        "seconds": used["seconds"],
        "floor": floor if floor > 0 else None,
        "of the floor": used["seconds"] / floor if floor > 0 else None,
        "CPU ms each": 1000 * used["cpu"] / size,
        "MB": used["megabytes"],
        "calls each": (after.calls - before.calls).total() / size,
        "throttled": after.throttled.total(),
    }
