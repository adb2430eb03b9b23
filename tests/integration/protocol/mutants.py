"""The mutants: for each rule, the invariant that is violated without it, and what a seed must meet for that."""

from dataclasses import dataclass, replace

from tests.integration.protocol.events import Feature
from tests.integration.protocol.rules import AS_DESIGNED, Rules
from tests.integration.protocol.world import Violation


@dataclass(frozen=True)
class RuleMutant:
    """A model without one rule."""

    rule: str
    violation: Violation
    features: frozenset[Feature]

    @property
    def rules(self) -> Rules:
        return replace(AS_DESIGNED, **{self.rule: False})


def _mutant(rule: str, violation: Violation, *features: Feature) -> RuleMutant:
    return RuleMutant(rule, violation, frozenset(features))


MUTANTS = (
    _mutant("row_is_conditional", Violation.WRONG_END),
    _mutant("failure_keeps_access", Violation.REVOKED, Feature.FAILED_CHECK, Feature.LOST_LEDGER),
    _mutant("row_before_message", Violation.WRONG_END, Feature.STALL),
    _mutant("sends_if_changed", Violation.WRONG_END),
    _mutant("sends_if_different", Violation.WRONG_END, Feature.KILL),
    _mutant("role_waits_for_records", Violation.ROLE_FIRST, Feature.RETIRE),
    _mutant("lost_record_may_grant", Violation.ROLE_FIRST, Feature.RETIRE, Feature.LOST_SHARD),
    _mutant("two_sets", Violation.ROLE_FIRST, Feature.RETIRE, Feature.KILL),
    _mutant("applying_is_kept", Violation.ROLE_FIRST, Feature.RETIRE, Feature.FAULT, Feature.KILL),
    _mutant("record_before_iam", Violation.WRONG_END, Feature.FAULT),
    _mutant("missing_row_keeps_access", Violation.REVOKED, Feature.LOST_LEDGER),
    _mutant("lost_record_is_read_from_iam", Violation.REVOKED, Feature.LOST_SHARD),
    _mutant("shards_are_counted", Violation.WRONG_END, Feature.LOST_SHARD),
    _mutant("recovery_waits", Violation.REVOKED, Feature.LOST_SHARD),
    _mutant("missing_flag_keeps_freeze", Violation.WRONG_FREEZE, Feature.FREEZE, Feature.LOST_FLAG),
    _mutant("run_lease", Violation.REVOKED, Feature.STALL),
    _mutant("lease_is_renewed", Violation.REVOKED, Feature.STALL),
    _mutant("renewal_is_conditional", Violation.WRONG_END, Feature.STALL),
    _mutant("lease_outlasts_call", Violation.WRONG_END, Feature.STALL),
    _mutant("call_follows_check", Violation.WRONG_END, Feature.STALL),
    _mutant("records_need_lease", Violation.WRONG_END, Feature.STALL),
    _mutant("unknown_outcome_keeps_lease", Violation.WRONG_END, Feature.FAULT),
    _mutant("widens_before_it_narrows", Violation.REVOKED, Feature.RESIZE),
    _mutant("freeze_first", Violation.FREEZE_LATE, Feature.FREEZE, Feature.BROKEN_SHARD),
    _mutant("freeze_ends_run", Violation.FREEZE_LATE, Feature.FREEZE),
    _mutant("freeze_ignores_errors", Violation.FREEZE_LATE, Feature.FREEZE, Feature.FAULT),
    _mutant("error_belongs_to_shard", Violation.NEVER_ENDS, Feature.BROKEN_SHARD),
    _mutant("verification_waits", Violation.FALSE_REPAIR, Feature.RESYNC),
    _mutant("verification_waits", Violation.DEFAULT_VERSION, Feature.RESYNC),
    _mutant("verification_trusts_record", Violation.WRONG_END, Feature.EDIT, Feature.RESYNC),
)
