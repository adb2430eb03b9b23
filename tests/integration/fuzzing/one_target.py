"""One target under the coverage-guided fuzzer, which ends the process: python -m tests.integration.fuzzing.one_target NAME OPTIONS…"""

import sys

import atheris

with atheris.instrument_imports(include=["chalicelib"]):
    from tests.integration.fuzzing.target import WORDS
    from tests.integration.fuzzing.targets import TARGETS

from tests.integration.fuzzing.mutation import Mutation
from tests.integration.simulation.example_stages import ExampleStages
from tests.integration.simulation.harness import simulated


def fuzz(name: str, *options: str) -> None:
    """Try inputs until the time is over or one has found a bug; only chalicelib is instrumented."""
    target = TARGETS[name]
    mutation = Mutation(target.encoded_seeds(), (*WORDS, *target.words))
    with simulated() as harness:
        stages = ExampleStages(harness)

        def try_input(data: bytes) -> None:
            target(stages, data)

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            return mutation(data, max_size, seed, atheris.Mutate)

        atheris.Setup([sys.argv[0], *options], try_input, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    fuzz(*sys.argv[1:])
