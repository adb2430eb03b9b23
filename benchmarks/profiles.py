"""Profiles: how much a run of the benchmarks measures."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Numbers of accounts and repetitions.

    `slow_accounts` are for the slow baselines, `concurrent_accounts` for many threads, and `long_repetitions` for long runs.
    `rate_factor` multiplies the rate of ListAccounts that AWS documents.
    """

    accounts: int
    slow_accounts: int
    concurrent_accounts: int
    batch_size: int
    repetitions: int
    long_repetitions: int
    organization_sizes: tuple[int, ...]
    rate_factor: int


FULL = Profile(
    accounts=200,
    slow_accounts=10,
    concurrent_accounts=1280,
    batch_size=1000,
    repetitions=7,
    long_repetitions=3,
    organization_sizes=(1_000, 5_000, 50_000),
    rate_factor=4,
)

QUICK = Profile(
    accounts=100,
    slow_accounts=3,
    concurrent_accounts=320,
    batch_size=320,
    repetitions=3,
    long_repetitions=1,
    organization_sizes=(1_000, 5_000),
    rate_factor=4,
)
