"""The targets without the fuzzer: their seeds, regressions and a fixed number of mutated inputs find nothing; mutants are found."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chalicelib.arns import AccountId
from chalicelib.aws.organizations import Organization
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.bootstrap import Application
from chalicelib.source_policy.records import Records, ShardContent
from tests.integration.fuzzing import documents_target, settings_target
from tests.integration.fuzzing.mutation import Mutation
from tests.integration.fuzzing.target import WORDS, Target
from tests.integration.fuzzing.targets import TARGETS
from tests.integration.simulation.calls import InvariantError
from tests.integration.simulation.enroll_mutants import every_id_is_confirmed
from tests.integration.simulation.example_stages import MEMBER, ExampleStages
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.members import UNKNOWN_ACCOUNT
from tests.integration.simulation.mutants import replaced

REGRESSIONS = Path(__file__).parent / "regressions"
MUTATED = 30  # inputs of each target


def _mutated(target: Target, number: int) -> list[bytes]:
    seeds = target.encoded_seeds()
    mutation = Mutation(seeds, (*WORDS, *target.words))
    return [mutation(seeds[each % len(seeds)], 4096, each, lambda data, _: data) for each in range(number)]


def _try(target: Target, inputs: list[bytes]) -> None:
    with simulated() as harness:
        stages = ExampleStages(harness)
        for data in inputs:
            target(stages, data)


def _try_all(name: str) -> None:
    target = TARGETS[name]
    regressions = [path.read_bytes() for path in (REGRESSIONS / name).glob("*")]
    _try(target, [*target.encoded_seeds(), *regressions, *_mutated(target, MUTATED)])


@pytest.mark.parametrize("name", TARGETS)
def test_known_and_mutated_inputs_find_nothing(process: ProcessPoolExecutor, name: str) -> None:
    process.submit(_try_all, name).result()


def _raises_for_unreadable(original: Any, self: SourcePolicyTable) -> Records:
    records: Records = original(self)
    if records.unreadable:
        raise KeyError(*records.unreadable)
    return records


def _fails(*_: object) -> None:
    raise ArithmeticError


def _fails_for_other_events(original: Any, self: Application, event: dict[str, Any]) -> None:
    if MEMBER not in json.dumps(event):
        raise ArithmeticError
    original(self, event)


def _parses_anything(*_: object) -> ShardContent:
    return ShardContent(accounts=frozenset({AccountId(UNKNOWN_ACCOUNT)}))


@pytest.mark.parametrize(
    ("name", "owner", "method", "replacement", "kind"),
    [
        ("events", Application, "enqueue", _fails_for_other_events, ArithmeticError),
        ("events", Organization, "describe", every_id_is_confirmed, InvariantError),
        ("messages", Organization, "describe", every_id_is_confirmed, InvariantError),
        ("requests", Organization, "describe", every_id_is_confirmed, InvariantError),
        ("requests", Application, "rerun", _fails, ArithmeticError),
        ("rows", Organization, "describe", every_id_is_confirmed, InvariantError),
        ("shards", SourcePolicyTable, "load", _raises_for_unreadable, KeyError),
        ("settings", settings_target, "checked_settings", _fails, ArithmeticError),
        ("documents", documents_target, "parse", _parses_anything, AssertionError),
    ],
)
def test_mutant_is_found(name: str, owner: Any, method: str, replacement: Any, kind: type[BaseException]) -> None:
    with replaced(owner, method, replacement), pytest.raises(kind):
        _try(TARGETS[name], TARGETS[name].encoded_seeds())


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
