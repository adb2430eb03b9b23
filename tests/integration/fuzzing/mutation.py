"""Changes of an input that keep it JSON: bytes alone would hardly ever come past the parser."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

_DEEP = "@deep@"  # stands for what json.dumps could not write
_TWICE = "@twice@"  # begins a key that is written a second time
_DEPTHS = (3, 100, 600, 3000)
_DEEPEST = 40  # at which a node is still changed

Path: TypeAlias = tuple[str | int, ...]
ByBytes: TypeAlias = Callable[[bytes, int], bytes]


class Mutation:
    """Changes inputs, by the words and keys that stand in the ones to begin with."""

    def __init__(self, seeds: list[bytes], words: tuple[Any, ...]) -> None:
        self._trees = [tree for seed in seeds if (tree := _read(seed)) is not None]
        nodes = [node for tree in self._trees for _, node in _nodes(tree)]
        self._words = [*words, *nodes]
        self._keys = sorted({key for node in nodes if isinstance(node, dict) for key in node} | {""})
        self._keys += [word for word in words if isinstance(word, str)]

    def __call__(self, data: bytes, most: int, seed: int, by_bytes: ByBytes) -> bytes:
        """Change an input of at most so many bytes; now and then byte by byte, since not everything that comes is JSON."""
        random = Random(seed)  # noqa: S311 - the fuzzer must be able to repeat it
        tree = _read(data)
        if tree is None and random.random() < 0.8:
            tree = random.choice(self._trees)  # what is no JSON would stay none
        if tree is None or random.random() < 0.1:
            return by_bytes(data, most)
        try:
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                tree = self._changed(tree, random)
            written = _written(tree, random)
        except (ValueError, RecursionError):
            return by_bytes(data, most)
        return written if len(written) <= most else by_bytes(data, most)

    def _changed(self, tree: Any, random: Random) -> Any:
        path, node = random.choice(list(_nodes(tree)))
        return _with(tree, path, self._instead(node, tree, random))

    def _instead(self, node: Any, tree: Any, random: Random) -> Any:
        if random.random() < 0.5:
            match node:
                case dict():
                    return self._in_object(node, random)
                case list():
                    return self._in_list(node, random)
                case str():
                    return _edited(node, random)
                case int() | float():
                    return random.choice((-node, node + 1, node * 10, str(node)))
        elsewhere = random.choice(list(_nodes(tree)))[1]
        around = random.choice(([node], {random.choice(self._keys): node}, json.dumps(node), _DEEP))
        return random.choice((random.choice(self._words), random.choice(self._words), elsewhere, around))

    def _in_object(self, node: dict[str, Any], random: Random) -> dict[str, Any]:
        key, word = random.choice(self._keys), random.choice(self._words)
        if not node or random.random() < 0.4:
            return {**node, key: word}
        held = random.choice(list(node))
        rest = {each: value for each, value in node.items() if each != held}
        return random.choice((rest, rest, {**rest, key: node[held]}, {**node, _TWICE + held: word}))

    def _in_list(self, node: list[Any], random: Random) -> list[Any]:
        some = [each for each in node if random.random() < 0.8]
        more = [*node, random.choice(self._words)]
        return random.choice((more, more, some, node[::-1], node * 2, node[:9] * 99))


def _edited(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    until = random.randrange(at, len(text) + 1)
    put = random.choice(
        ("", "0", "-", ",", ":", "/", "*", " ", "\n", "{", "é", "\ud800", "²", text[at:until] * 2, text)
    )
    return text[:at] + put + text[until:]


def _read(data: bytes) -> Any:
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
        if len(path) == _DEEPEST:
            continue
        if isinstance(node, dict):
            pending += [((*path, key), each) for key, each in node.items()]
        elif isinstance(node, list):
            pending += [((*path, index), each) for index, each in enumerate(node[:50])]


def _with(tree: Any, path: Path, instead: Any) -> Any:
    if not path:
        return instead
    first, *rest = path
    if isinstance(tree, dict):
        return {**tree, first: _with(tree[first], tuple(rest), instead)}
    return [_with(each, tuple(rest), instead) if index == first else each for index, each in enumerate(tree)]
