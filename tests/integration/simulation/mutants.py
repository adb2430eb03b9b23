"""Mutants replace one method of the application each, and violate an invariant."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from tests.integration.simulation.fault_matrix import inject_faults
from tests.integration.simulation.faults import KILLS
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.random_run import first_violation

Function = Callable[..., Any]


@contextmanager
def replaced(owner: Any, name: str, replacement: Function) -> Iterator[None]:
    """Replace a method or a module's function by one that takes the original first."""
    original = getattr(owner, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, lambda *args, **options: replacement(original, *args, **options))
        yield


@dataclass(frozen=True)
class Mutant:
    """A replaced method, and how it is caught."""

    owner: type | str
    method: str
    replacement: Function
    invariant: str
    scenario: str | None
    first: int
    faults: tuple[str, ...]


MUTANTS: list[Mutant] = []


def mutates(
    owner: type | str,
    method: str,
    violates: str,
    scenario: str | None = None,
    *,
    first: int = 0,
    faults: tuple[str, ...] = KILLS,
) -> Callable[[Function], Function]:
    """Register a mutant of a class, or of a module by its name, and words of the invariant that it violates.

    It is violated in a random run, or in a scenario with faults. `first` is the seed to begin with.
    """

    def register(replacement: Function) -> Function:
        MUTANTS.append(Mutant(owner, method, replacement, violates, scenario, first, faults))
        return replacement

    return register


def violation(mutant: Mutant, seeds: int) -> str | None:
    """Return the trace of the first violation of the mutant's invariant, or None."""
    owner = import_module(mutant.owner) if isinstance(mutant.owner, str) else mutant.owner
    with replaced(owner, mutant.method, mutant.replacement):
        if mutant.scenario is None:
            with simulated() as harness:
                return first_violation(harness, range(mutant.first, mutant.first + seeds), mutant.invariant)[0]
        traces = inject_faults(mutant.scenario, mutant.faults, until=mutant.invariant).divergences
        return next((trace for trace in traces if mutant.invariant in trace), None)
