"""Try one input again, without the fuzzer: python -m tests.integration.fuzzing.replay NAME FILE."""

import sys
from pathlib import Path

from tests.integration.fuzzing.targets import TARGETS
from tests.integration.simulation.example_stages import ExampleStages
from tests.integration.simulation.harness import simulated


def replay(name: str, file: Path) -> None:
    """Try an input, and raise what it finds."""
    with simulated() as harness:
        TARGETS[name](ExampleStages(harness), file.read_bytes())


if __name__ == "__main__":
    replay(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.write("nothing found\n")
