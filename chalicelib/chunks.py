"""Iterables in pieces of at most some size."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


def chunked(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield the items in lists of at most `size`; no more of the iterable is read than the caller takes."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
