"""Whether an evaluation of IAM answers every question about a world as the model does, also with mutated documents."""

from collections.abc import Container, Iterable
from functools import partial
from typing import Protocol

from tests.end_to_end.authorization.model import may
from tests.end_to_end.authorization.mutants import mutations
from tests.end_to_end.authorization.world import World
from tests.end_to_end.authorization.written import Change, Document, FunctionPolicies, Written, unchanged, written


class Iam(Protocol):
    """An evaluation of IAM."""

    @property
    def organization_id(self) -> str: ...

    def allowed(self, world: World, content: Written) -> list[bool]:
        """Return whether each request of the world's questions is allowed."""
        ...


def disagreements(iam: Iam, world: World, functions: FunctionPolicies, change: Change = unchanged) -> list[str]:
    """Return the questions whose answers differ, with the answer of the evaluation."""
    allowed = iam.allowed(world, written(world, iam.organization_id, functions, change))
    return [
        f"{'allowed' if answer else 'denied'}: {question}\n in {world.stages[question.request.stage]}"
        for question, answer in zip(world.questions, allowed, strict=True)
        if answer != may(question.principal, question.account, world, question.request)
    ]


def mutated(name: str, kind: str, document: Document) -> Document:
    """Return a document with a mutant, if it has what the mutant changes."""
    return mutations(kind, document).get(name, document)


def undetected(iam: Iam, worlds: Iterable[World], functions: FunctionPolicies, untried: Container[str]) -> set[str]:
    """Return the mutants of all worlds' documents with which no answer differs, and those that aren't tried."""
    seen, found = set[str](), set[str]()
    for world in worlds:
        names = _mutants(iam, world, functions)
        seen |= names
        for name in sorted(names - found):
            if name not in untried and disagreements(iam, world, functions, partial(mutated, name)):
                found.add(name)
    return seen - found


def _mutants(iam: Iam, world: World, functions: FunctionPolicies) -> set[str]:
    names = set[str]()

    def note(kind: str, document: Document) -> Document:
        names.update(mutations(kind, document))
        return document

    written(world, iam.organization_id, functions, note)
    return names
