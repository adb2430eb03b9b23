"""The targets themselves, without the fuzzer: the inputs to begin with, those that once found something, and planted bugs."""

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.aws.organizations import Organization
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records, ShardContent
from tests.integration.fuzzing.mutation import Mutation
from tests.integration.fuzzing.target import WORDS, World
from tests.integration.fuzzing.targets import TARGETS
from tests.integration.simulation.answers import RuleBrokenError
from tests.integration.simulation.boundary import Boundary, simulated
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.mutants import planted

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*/*"))


def _replayed() -> int:
    """Try every input, in a process of its own: tracing coverage would take most of the time."""
    inputs = [(name, seed) for name, target in TARGETS.items() for seed in target.written_seeds()]
    inputs += [(path.parent.name, path.read_bytes()) for path in REGRESSIONS]
    with simulated() as boundary:
        world = World(boundary)
        for name, data in inputs:
            TARGETS[name](world, data)
    return len(inputs)


def test_no_input_to_begin_with_and_none_that_once_found_something_finds_anything() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        tried = pool.submit(_replayed).result()

    assert tried > len(REGRESSIONS) > 0


class _Deaf(Application):
    """Fails on every event."""

    def enqueue(self, event: dict[str, Any]) -> None:
        raise KeyError(str(event)[:9])


class _Trusting(Organization):
    """Takes everybody for a member."""

    def describe(self, account_id: AccountId) -> Account:
        return super().describe(account_id) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


class _Silent(Application):
    """Fails on every request of one function."""

    @cached_property
    def _sweep(self) -> Any:
        raise AttributeError


class _Strict(SourcePolicyTable):
    """Raises for an item that can't be read."""

    def load(self) -> Records:
        records = super().load()
        if records.unreadable:
            raise KeyError(*records.unreadable)
        return records


def _careless(_: Mapping[str, str]) -> Settings:
    raise ValueError


def _credulous(_: Document, __: Settings, ___: str) -> ShardContent:
    return ShardContent(accounts=frozenset({AccountId(STRANGER)}))


@pytest.mark.parametrize(
    ("name", "bug", "kind"),
    [
        ("events", {"kind": _Deaf}, KeyError),
        ("events", _Trusting, RuleBrokenError),
        ("messages", _Trusting, RuleBrokenError),
        ("requests", _Trusting, RuleBrokenError),
        ("requests", {"kind": _Silent}, AttributeError),
        ("rows", _Trusting, RuleBrokenError),
        ("shards", _Strict, KeyError),
        ("settings", {"read_settings": _careless}, ValueError),
        ("documents", {"parse": _credulous}, AssertionError),
    ],
)
def test_a_planted_bug_is_found(name: str, bug: type | dict[str, Any], kind: type[BaseException]) -> None:
    parts = (bug,) if isinstance(bug, type) else ()
    with planted(*parts), simulated() as boundary:
        found = _first_found(boundary, name, {} if isinstance(bug, type) else bug)

    assert isinstance(found, kind)


def _first_found(boundary: Boundary, name: str, bug: dict[str, Any]) -> BaseException | None:
    world = World(boundary, **bug)
    for seed in TARGETS[name].written_seeds():
        try:
            TARGETS[name](world, seed)
        except (Exception, RuleBrokenError) as error:  # noqa: BLE001 - whatever was found
            return error
    return None


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_changed_within_json_and_the_same_again_by_their_seed(name: str) -> None:
    seeds = TARGETS[name].written_seeds()
    mutation = Mutation(seeds, (*WORDS, *TARGETS[name].words))

    def change(number: int) -> bytes:
        return mutation(seeds[number % len(seeds)], 4096, number, lambda data, _: data)

    changed = [change(number) for number in range(100)]

    assert changed == [change(number) for number in range(100)]
    assert sum(_is_json(each) for each in changed) > 70
    assert len(set(changed)) > 50
    assert all(len(each) <= 4096 or each in seeds for each in changed)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
