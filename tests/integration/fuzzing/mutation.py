"""Mutations that keep an input JSON: mutated bytes would hardly ever get past the parser."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

_DEEP = "@deep@"  # a placeholder for nesting that json.dumps can't write
_TWICE = "@twice@"  # the prefix of a key that is written a second time
_DEPTHS = (3, 100, 600, 3000)
_MAX_DEPTH = 40  # of a node that is mutated

Path: TypeAlias = tuple[str | int, ...]
MutateBytes: TypeAlias = Callable[[bytes, int], bytes]


class Mutation:
    """Mutates inputs with the words and keys of the seeds."""

    def __init__(self, seeds: list[bytes], words: tuple[Any, ...]) -> None:
        self._trees = [tree for seed in seeds if (tree := _parse(seed)) is not None]
        nodes = [node for tree in self._trees for _, node in _nodes(tree)]
        self._words = [*words, *nodes]
        self._keys = sorted({key for node in nodes if isinstance(node, dict) for key in node} | {""})
        self._keys += [word for word in words if isinstance(word, str)]

    def __call__(self, data: bytes, max_size: int, seed: int, mutate_bytes: MutateBytes) -> bytes:
        """Return a mutated input of at most `max_size` bytes; some are mutated byte by byte, and may not be JSON."""
        random = Random(seed)  # noqa: S311 - the fuzzer must be able to repeat it
        tree = _parse(data)
        if tree is None and random.random() < 0.8:
            tree = random.choice(self._trees)  # what is not JSON would stay so
        if tree is None or random.random() < 0.1:
            return mutate_bytes(data, max_size)
        try:
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                tree = self._mutated(tree, random)
            written = _written(tree, random)
        except (ValueError, RecursionError):
            return mutate_bytes(data, max_size)
        return written if len(written) <= max_size else mutate_bytes(data, max_size)

    def _mutated(self, tree: Any, random: Random) -> Any:
        path, node = random.choice(list(_nodes(tree)))
        return _replaced(tree, path, self._replacement(node, tree, random))

    def _replacement(self, node: Any, tree: Any, random: Random) -> Any:
        if random.random() < 0.5:
            match node:
                case dict():
                    return self._mutated_object(node, random)
                case list():
                    return self._mutated_list(node, random)
                case str():
                    return _mutated_text(node, random)
                case int() | float():
                    return random.choice((-node, node + 1, node * 10, str(node)))
        elsewhere = random.choice(list(_nodes(tree)))[1]
        wrapped = random.choice(([node], {random.choice(self._keys): node}, json.dumps(node), _DEEP))
        return random.choice((random.choice(self._words), random.choice(self._words), elsewhere, wrapped))

    def _mutated_object(self, node: dict[str, Any], random: Random) -> dict[str, Any]:
        key, word = random.choice(self._keys), random.choice(self._words)
        if not node or random.random() < 0.4:
            return {**node, key: word}
        removed = random.choice(list(node))
        rest = {each: value for each, value in node.items() if each != removed}
        return random.choice((rest, rest, {**rest, key: node[removed]}, {**node, _TWICE + removed: word}))

    def _mutated_list(self, node: list[Any], random: Random) -> list[Any]:
        fewer = [each for each in node if random.random() < 0.8]
        more = [*node, random.choice(self._words)]
        return random.choice((more, more, fewer, node[::-1], node * 2, node[:9] * 99))


def _mutated_text(text: str, random: Random) -> str:
    start = random.randrange(len(text) + 1)
    end = random.randrange(start, len(text) + 1)
    inserted = ("", "0", "-", ",", ":", "/", "*", " ", "\n", "{", "é", "\ud800", "²", text[start:end] * 2, text)
    return text[:start] + random.choice(inserted) + text[end:]


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _written(tree: Any, random: Random) -> bytes:
    text = json.dumps(tree)
    depth = random.choice(_DEPTHS)
    opened, closed = random.choice((("[", "]"), ('{"a":', "}")))
    text = text.replace(json.dumps(_DEEP), opened * depth + "1" + closed * depth)
    return text.replace(_TWICE, "").encode()


def _nodes(tree: Any) -> Iterator[tuple[Path, Any]]:
    pending: list[tuple[Path, Any]] = [((), tree)]
    while pending:
        path, node = pending.pop()
        yield path, node
        if len(path) == _MAX_DEPTH:
            continue
        if isinstance(node, dict):
            pending += [((*path, key), each) for key, each in node.items()]
        elif isinstance(node, list):
            pending += [((*path, index), each) for index, each in enumerate(node[:50])]


def _replaced(tree: Any, path: Path, replacement: Any) -> Any:
    if not path:
        return replacement
    first, *rest = path
    if isinstance(tree, dict):
        return {**tree, first: _replaced(tree[first], tuple(rest), replacement)}
    return [_replaced(each, tuple(rest), replacement) if index == first else each for index, each in enumerate(tree)]
