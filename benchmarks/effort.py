"""How long a run of the benchmarks takes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many accounts, and how often."""

    accounts: int
    few_accounts: int
    many_accounts: int
    batch: int
    repetitions: int
    few_repetitions: int
    sizes: tuple[int, ...]
    rate_multiple: int


FULL = Effort(
    accounts=200,
    few_accounts=10,
    many_accounts=1280,
    batch=1000,
    repetitions=7,
    few_repetitions=3,
    sizes=(1_000, 5_000, 50_000),
    rate_multiple=4,
)

QUICK = Effort(
    accounts=100,
    few_accounts=3,
    many_accounts=320,
    batch=320,
    repetitions=3,
    few_repetitions=1,
    sizes=(1_000, 5_000),
    rate_multiple=4,
)
