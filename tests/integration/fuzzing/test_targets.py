"""The targets without the fuzzer: their seeds, regressions and a fixed number of mutated inputs find nothing; mutants are found."""

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from chalicelib.arns import AccountId
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records, ShardContent
from tests.integration.fuzzing.mutation import Mutation
from tests.integration.fuzzing.target import WORDS, SystemUnderTest, Target
from tests.integration.fuzzing.targets import TARGETS
from tests.integration.simulation.calls import InvariantError
from tests.integration.simulation.enroll_mutants import ConfirmsEveryId
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.members import UNKNOWN_ACCOUNT
from tests.integration.simulation.mutants import with_mutants

REGRESSIONS = Path(__file__).parent / "regressions"
MUTATED = 30  # inputs of each target


def _mutated(target: Target, number: int) -> list[bytes]:
    seeds = target.encoded_seeds()
    mutation = Mutation(seeds, (*WORDS, *target.words))
    return [mutation(seeds[each % len(seeds)], 4096, each, lambda data, _: data) for each in range(number)]


def _try(target: Target, inputs: list[bytes], **parts: Any) -> None:
    with simulated() as harness:
        system = SystemUnderTest(harness, **parts)
        for data in inputs:
            target(system, data)


def _try_all(name: str) -> None:
    target = TARGETS[name]
    regressions = [path.read_bytes() for path in (REGRESSIONS / name).glob("*")]
    _try(target, [*target.encoded_seeds(), *regressions, *_mutated(target, MUTATED)])


@pytest.mark.parametrize("name", TARGETS)
def test_known_and_mutated_inputs_find_nothing(process: ProcessPoolExecutor, name: str) -> None:
    process.submit(_try_all, name).result()


class _FailsOnEvents(Application):
    def enqueue(self, event: dict[str, Any]) -> None:
        raise KeyError(str(event)[:9])


class _FailsOnRequests(Application):
    @cached_property
    def _sweep(self) -> Any:
        raise AttributeError


class _RaisesForUnreadable(SourcePolicyTable):
    def load(self) -> Records:
        records = super().load()
        if records.unreadable:
            raise KeyError(*records.unreadable)
        return records


def _fail(_: Mapping[str, str]) -> Settings:
    raise ValueError


def _parse_anything(_: Document, __: Settings, ___: str) -> ShardContent:
    return ShardContent(accounts=frozenset({AccountId(UNKNOWN_ACCOUNT)}))


@pytest.mark.parametrize(
    ("name", "mutant", "kind"),
    [
        ("events", {"kind": _FailsOnEvents}, KeyError),
        ("events", ConfirmsEveryId, InvariantError),
        ("messages", ConfirmsEveryId, InvariantError),
        ("requests", ConfirmsEveryId, InvariantError),
        ("requests", {"kind": _FailsOnRequests}, AttributeError),
        ("rows", ConfirmsEveryId, InvariantError),
        ("shards", _RaisesForUnreadable, KeyError),
        ("settings", {"read_settings": _fail}, ValueError),
        ("documents", {"parse": _parse_anything}, AssertionError),
    ],
)
def test_mutant_is_found(name: str, mutant: type | dict[str, Any], kind: type[BaseException]) -> None:
    classes, parts = ((mutant,), {}) if isinstance(mutant, type) else ((), mutant)
    with with_mutants(*classes), pytest.raises(kind):
        _try(TARGETS[name], TARGETS[name].encoded_seeds(), **parts)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_keep_inputs_json_and_are_repeatable(name: str) -> None:
    seeds = TARGETS[name].encoded_seeds()

    mutated = _mutated(TARGETS[name], 100)

    assert mutated == _mutated(TARGETS[name], 100)
    assert sum(_is_json(each) for each in mutated) > 70
    assert len(set(mutated)) > 50
    assert all(len(each) <= 4096 or each in seeds for each in mutated)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
