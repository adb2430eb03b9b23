"""Every action of ReadOnlyAccess whose response may contain data or credentials is denied, or has a reason to stay open."""

from chalicelib.data_read_denies import DENIED_DATA_READS
from verify.data_reads import (
    REVIEWED,
    allowed_actions,
    candidates,
    reviewed_actions,
    service_models,
    shipped_policy,
    undecided,
)


def test_every_candidate_of_read_only_access_is_decided_on() -> None:
    found = candidates(allowed_actions(shipped_policy()), service_models())
    reviewed = reviewed_actions()

    assert undecided(found, {*DENIED_DATA_READS, *reviewed}) == {}
    assert reviewed.keys() - found.keys() == set(), f"no candidates: remove them from {REVIEWED.name}"
