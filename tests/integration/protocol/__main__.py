"""Search the protocol's model: python -m tests.integration.protocol SEEDS [FIRST_SEED]."""

import sys

from tests.integration.protocol.model import search

if __name__ == "__main__":
    seeds, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    report = search(range(first, first + seeds))
    sys.stdout.write(f"{report}\n")
    sys.exit(bool(report.violations))
