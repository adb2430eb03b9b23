"""The application with one rule broken at a time, and the invariant that this violates."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from chalicelib import bootstrap, publisher
from tests.integration.simulation.fault_matrix import MatrixReport, divergences
from tests.integration.simulation.faults import KILLS
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
    """A mutant, and how it is caught."""

    kind: type
    invariant: str
    scenario: str | None
    first: int
    faults: tuple[str, ...]


MUTANTS: list[Mutant] = []


def violates(
    invariant: str, scenario: str | None = None, *, first: int = 0, faults: tuple[str, ...] = KILLS
) -> Callable[[type], type]:
    """Register a mutant, and words of the invariant that it violates: in a random run, or in a scenario with faults.

    `first` is the seed to begin with.
    """

    def register(mutant: type) -> type:
        MUTANTS.append(Mutant(mutant, invariant, scenario, first, faults))
        return mutant

    return register


def violation(mutant: Mutant, seeds: int) -> str | None:
    """Return the trace of the first violation of the mutant's invariant, or None."""
    with with_mutants(mutant.kind):
        if mutant.scenario is None:
            with simulated() as harness:
                return first_violation(harness, range(mutant.first, mutant.first + seeds), mutant.invariant)[0]
        with closing(divergences(mutant.scenario, mutant.faults, MatrixReport())) as traces:
            return next((trace for trace in traces if mutant.invariant in trace), None)
