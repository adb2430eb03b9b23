"""Results as text tables and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

Cell: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Claim:
    """A limit that a measured value must meet."""

    about: str
    measured: float
    limit: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the measured value is within the limit."""
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return (
            f"{'holds' if self.holds else 'DOES NOT HOLD'}: {self.about}: {self.measured:.2f} ({sign} {self.limit:g})"
        )


@dataclass
class Measurement:
    """A titled table of results, and the claims that are checked against it."""

    title: str
    rows: list[dict[str, Cell]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"\n{self.title}", *self._table(), *(f"  {note}" for note in self.notes)]
        return "\n".join([*lines, *(f"  {claim}" for claim in self.claims)])

    def _table(self) -> list[str]:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        cells = [names, *([_formatted(row.get(name)) for name in names] for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
        return [
            "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]


def _formatted(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.2f}"  # noqa: PLR2004 - more would be noise
    return "" if cell is None else str(cell)


def write(path: Path, measurements: list[Measurement]) -> None:
    """Write all results as JSON."""
    content = [
        asdict(each) | {"claims": [asdict(claim) | {"holds": claim.holds} for claim in each.claims]}
        for each in measurements
    ]
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
