"""What is wrong with a deployment before it changes anything: all of it in one list, each with its remedy."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rolecall.errors import CommandError, DeniedError


class RefusedError(CommandError):
    """A stage can't be deployed or undeployed as requested, and nothing was changed."""

    def __init__(self, summary: str, problems: Iterable[str], unchecked: Iterable[str] = ()) -> None:
        """Take what can't be done, every reason, and what could not be checked."""
        self.summary = summary
        self.problems = tuple(problems)
        self.unchecked = tuple(unchecked)
        super().__init__("\n  ".join([summary, *self.problems, *(f"not checked: {each}" for each in self.unchecked)]))


@dataclass(slots=True)
class Problems:
    """Collects the problems that several checks find, what they warn of, and what they could not check. `denied` are those that AWS denied."""

    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    def add(self, what: str, remedy: str) -> None:
        """Add a problem with its remedy."""
        self.found.append(f"{what}: {remedy}")

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Add the CommandError that a check raises as a problem; its message has the remedy."""
        try:
            yield
        except CommandError as error:
            self.found.append(str(error))
            self.denied += [str(error)] if isinstance(error, DeniedError) else []

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Add the CommandError that a check raises to what could not be checked."""
        try:
            yield
        except CommandError as error:
            self.unchecked.append(f"{what}: {error}")
