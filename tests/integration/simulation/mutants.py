"""The application with one rule broken at a time, and the invariant that this violates."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from chalicelib import bootstrap, publisher
from tests.integration.simulation import enroll_mutants as enroll
from tests.integration.simulation import publish_mutants as publish
from tests.integration.simulation.fault_matrix import MatrixReport, divergences
from tests.integration.simulation.faults import KILLS, LATE, OVERLAP
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.random_run import first_violation


@contextmanager
def with_mutants(*mutants: type) -> Iterator[None]:
    """Replace classes by mutants that derive from them."""
    with pytest.MonkeyPatch.context() as patch:
        for mutant in mutants:
            replaced = next(kind for kind in mutant.__mro__[1:] if kind.__module__.startswith("chalicelib."))
            for module in (sys.modules[replaced.__module__], bootstrap, publisher):
                if getattr(module, replaced.__name__, None) is replaced:
                    patch.setattr(module, replaced.__name__, mutant)
        yield


@dataclass(frozen=True)
class Mutant:
    """A mutant, and words of the invariant that it violates: in a random run, or in a scenario with faults."""

    kind: type
    invariant: str
    scenario: str | None = None
    first: int = 0  # the seed to begin with
    faults: tuple[str, ...] = KILLS


MUTANTS: Mapping[str, Mutant] = {
    "trust is not repaired": Mutant(enroll.IgnoresTrust, "is the desired one", first=14),
    "role without policies": Mutant(enroll.AttachesNothing, "is the desired one"),
    "foreign role is adopted": Mutant(enroll.AdoptsForeignRoles, "nothing that is not ours is changed", first=1),
    "role is repaired endlessly": Mutant(enroll.RepairsEndlessly, "writes nothing, and not iam:UpdateRole"),
    "shard is rewritten endlessly": Mutant(publish.RewritesEndlessly, "writes nothing", "unchanged"),
    "role deleted while granted": Mutant(
        enroll.DeletesRoleTooEarly, "a role is deleted only while", "retired by request"
    ),
    "role of a retired account stays": Mutant(enroll.DeletesNoRole, "has no role", "retired by request"),
    "returned account counts as departed": Mutant(enroll.TrustsDeparture, "is granted", "departed and back"),
    "retirement is forgotten": Mutant(
        enroll.IgnoresRetirement, "a retired account is not granted", "retired by request"
    ),
    "missing units count as none": Mutant(enroll.ExpectsNoUnits, "is granted", "units named while a listing waits"),
    "unconfirmed account is entered": Mutant(
        enroll.ConfirmsEveryId, "no account is entered that Organizations never confirmed", first=1
    ),
    "unconditional row": Mutant(enroll.WritesUnconditionally, "a row is written only over"),
    "failure without a reason": Mutant(enroll.WritesNoReason, "every failure has a reason", first=6),
    "failure without a row": Mutant(enroll.HidesFailures, "the ledger has a row for every account"),
    "failure writes none": Mutant(
        enroll.RevokesAfterFailure, "whatever was lost", "ledger lost, and an account denied"
    ),
    "no account is excluded": Mutant(enroll.ExcludesNoAccount, "the organization's source policy excludes", first=1),
    "orphaned account stays": Mutant(enroll.KeepsOrphaned, "orphaned accounts are revoked", "orphaned accounts"),
    "message before row": Mutant(enroll.MessageBeforeRow, "whose row was written while", "publish while enroll writes"),
    "message only if different": Mutant(
        enroll.MessageOnlyIfDifferent, "is granted though", "active again while publish writes"
    ),
    "unexpected error": Mutant(enroll.RaisesUnexpectedly, "no unexpected error is raised"),
    "no run lease": Mutant(
        publish.NoRunLease, "only the run that holds the lease", "shard overflow", faults=(OVERLAP,)
    ),
    "lease not kept": Mutant(
        publish.ReleasesLease, "only the run that holds the lease", "shard overflow", faults=(LATE,)
    ),
    "uninstall stops nothing": Mutant(publish.NeverUninstalls, "", first=32),
    "missing row revokes": Mutant(publish.MissingRowRevokes, "no account loses access", "ledger lost"),
    "never revokes": Mutant(publish.NeverRevokes, "", first=1),
    "never grants": Mutant(publish.NeverGrants, ""),
    "narrows before it widens": Mutant(publish.NarrowsFirst, "no account loses access", "shard over its capacity"),
    "shard without room is opened": Mutant(
        publish.OpensWithoutRoom, "a new account fails with the reason", "attachment quota"
    ),
    "scope changes too early": Mutant(
        publish.ChangesScopeEarly, "whatever was lost", "scope narrowed after a lost ledger"
    ),
    "lost records are empty": Mutant(publish.LostRecordsAreEmpty, "no account loses access", "both tables lost"),
    "no applying": Mutant(publish.NoApplying, "a role is deleted only while", "retired after a kill after IAM"),
    "applying overwrites applied": Mutant(publish.ApplyingOverwrites, "killed", "source principal changed"),
    "applied before the write": Mutant(publish.AppliedBeforeWriting, "killed", "new account"),
    "freeze last": Mutant(publish.FreezesLast, "a freeze is written first", "freeze while a shard is to be opened"),
    "terminal error blocks the group": Mutant(
        publish.TerminalErrorBlocks, "are finished", "freeze with the only shard unwritable"
    ),
    "verify right after a write": Mutant(publish.VerifiesAtOnce, "nothing is repaired", "resync right after a write"),
    "shard over its quota": Mutant(publish.ExceedsCapacity, "no document is over the quota", "shard overflow"),
    "versions of others stay": Mutant(
        publish.KeepsStrayVersions, "versions of others are deleted", "version by others"
    ),
    "five versions and no room": Mutant(publish.NeverPrunes, "writes nothing", first=2),
    "source account is not entered": Mutant(publish.IgnoresSourceAccount, "is granted", "separate source account"),
    "second shard is not attached": Mutant(
        publish.AttachesFirstShard, "the second shard is attached", "shard overflow"
    ),
    "foreign policy is adopted": Mutant(
        publish.AdoptsForeignPolicies, "nothing that is not ours", "foreign source policy"
    ),
}


def violation(mutant: Mutant, seeds: int) -> str | None:
    """Return the trace of the first violation of the mutant's invariant, or None."""
    with with_mutants(mutant.kind):
        if mutant.scenario is None:
            with simulated() as harness:
                return first_violation(harness, range(mutant.first, mutant.first + seeds), mutant.invariant)[0]
        with closing(divergences(mutant.scenario, mutant.faults, MatrixReport())) as traces:
            return next((trace for trace in traces if mutant.invariant in trace), None)
