"""One input again, without the fuzzer: python -m tests.integration.fuzzing.replay NAME FILE."""

import sys
from pathlib import Path

from tests.integration.fuzzing.target import World
from tests.integration.fuzzing.targets import TARGETS
from tests.integration.simulation.boundary import simulated


def replay(name: str, file: Path) -> None:
    """Try an input, which raises what it has found."""
    with simulated() as boundary:
        TARGETS[name](World(boundary), file.read_bytes())


if __name__ == "__main__":
    replay(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.write("nothing was found\n")
