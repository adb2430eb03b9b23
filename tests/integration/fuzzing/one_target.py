"""One target under the coverage-guided fuzzer, which ends the process itself: python -m tests.integration.fuzzing.one_target NAME OPTIONS…"""

import sys

import atheris

with atheris.instrument_imports(include=["chalicelib"]):
    from tests.integration.fuzzing.target import WORDS, World
    from tests.integration.fuzzing.targets import TARGETS

from tests.integration.fuzzing.mutation import Mutation
from tests.integration.simulation.boundary import simulated


def fuzz(name: str, *options: str) -> None:
    """Try inputs until the time is over or one has found something; only the product is instrumented."""
    target = TARGETS[name]
    mutation = Mutation(target.written_seeds(), (*WORDS, *target.words))
    with simulated() as boundary:
        world = World(boundary)

        def try_one(data: bytes) -> None:
            boundary.printed.seek(0)
            boundary.printed.truncate()
            target(world, data)

        def change(data: bytes, most: int, seed: int) -> bytes:
            return mutation(data, most, seed, atheris.Mutate)

        atheris.Setup([sys.argv[0], *options], try_one, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    fuzz(*sys.argv[1:])
