import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.documents import Document


@dataclass(frozen=True)
class Statement:
    """The meaning of a statement, which can be written in many ways."""

    effect: str
    actions: frozenset[str]
    resources: frozenset[str]
    principals: frozenset[str]
    conditions: Mapping[tuple[str, str], frozenset[str]]

    def key(self) -> str:
        conditions = sorted((operator, key, sorted(values)) for (operator, key), values in self.conditions.items())
        return repr((self.effect, *map(sorted, (self.actions, self.resources, self.principals)), conditions))


def some(*values: str) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(values), min_size=1)


statements = st.builds(
    Statement,
    effect=st.sampled_from(["Allow", "Deny"]),
    actions=some("sts:assumerole", "sts:tagsession", "s3:*"),
    resources=some("*", "arn:aws:iam::111122223333:role/A", "arn:aws:iam::111122223333:role/a"),
    principals=some("111122223333", "444455556666", "arn:aws:iam::111122223333:role/A"),
    conditions=st.dictionaries(
        st.tuples(
            st.sampled_from(["StringEquals", "StringLike", "Bool"]), st.sampled_from(["aws:principalarn", "aws:x"])
        ),
        some("true", "false", "A", "a"),
    ),
)
randoms = st.randoms(use_true_random=True)  # one draw for any number of shuffles
meanings = st.lists(statements, min_size=1, max_size=3)


def rendered(meaning: Iterable[Statement], random: Random) -> Document:
    each = [_statement(statement, random) for statement in meaning]
    random.shuffle(each)
    content = {"Statement": each[0] if len(each) == 1 and random.random() < 0.5 else each, "Version": "2012-10-17"}
    return Document(json.dumps(_reordered(content, random), indent=random.choice([None, 1])))


def _statement(statement: Statement, random: Random) -> dict[str, Any]:
    conditions: dict[str, dict[str, Any]] = {}
    for (operator, key), values in statement.conditions.items():
        texts = [_boolean(value, random) for value in values]
        conditions.setdefault(operator, {})[_recased(key, random)] = _listed(texts, random)
    content = {
        "Effect": statement.effect,
        "Action": _listed([_recased(action, random) for action in statement.actions], random),
        "Resource": _listed(statement.resources, random),
        "Principal": {"AWS": _listed([_principal(each, random) for each in statement.principals], random)},
        "Condition": {operator: _reordered(tests, random) for operator, tests in conditions.items()},
    }
    return _reordered(content, random)


def _listed(values: Iterable[Any], random: Random) -> Any:
    listed = list(values)
    random.shuffle(listed)
    if random.random() < 0.3:
        listed.append(listed[0])
    return listed[0] if len(listed) == 1 and random.random() < 0.5 else listed


def _recased(text: str, random: Random) -> str:
    return "".join(random.choice([each.lower(), each.upper()]) for each in text)


def _boolean(text: str, random: Random) -> Any:
    return {"true": True, "false": False}.get(text, text) if random.random() < 0.5 else text


def _principal(text: str, random: Random) -> str:
    return f"arn:aws:iam::{text}:root" if text.isdigit() and random.random() < 0.5 else text


def _reordered(content: dict[str, Any], random: Random) -> dict[str, Any]:
    return dict(random.sample(list(content.items()), len(content)))


@given(meanings, randoms, randoms)
def test_documents_with_the_same_meaning_are_equal(meaning: list[Statement], one: Random, other: Random) -> None:
    first, second = rendered(meaning, one), rendered(meaning, other)

    assert first == second
    assert hash(first) == hash(second)


@given(meanings, statements, st.data(), randoms)
def test_documents_with_different_meanings_are_not_equal(
    meaning: list[Statement], other: Statement, data: st.DataObject, random: Random
) -> None:
    index = data.draw(st.integers(0, len(meaning) - 1))
    part = data.draw(st.sampled_from(["effect", "actions", "resources", "principals", "conditions"]))
    changed = replace(meaning[index], **{part: getattr(other, part)})
    assume(changed.key() != meaning[index].key())

    assert rendered(meaning, random) != rendered([*meaning[:index], changed, *meaning[index + 1 :]], random)
    assert rendered(meaning, random) != rendered([*meaning, other], random)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"Version": "2012-10-17"}, {"Version": "2008-10-17"}),
        ({"Id": "a"}, {"Id": "b"}),
        ({"Statement": {"Sid": "a"}}, {"Statement": {"Sid": "A"}}),
        ({"Statement": {"Action": "s3:*"}}, {"Statement": {"NotAction": "s3:*"}}),
        ({"Statement": {"Resource": "a"}}, {"Statement": {"NotResource": "a"}}),
        ({"Statement": {"Principal": {"AWS": "role/A"}}}, {"Statement": {"Principal": {"AWS": "role/a"}}}),
        ({"Statement": {"Principal": "*"}}, {"Statement": {"NotPrincipal": "*"}}),
        ({"Statement": {"Principal": {"AWS": "1"}}}, {"Statement": {"Principal": {"Service": "1"}}}),
        (
            {"Statement": {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}},
            {"Statement": {"Principal": {"AWS": "arn:aws:iam::111122223333:role/root"}}},
        ),
        (
            {"Statement": {"Condition": {"StringEquals": {"a": "1"}}}},
            {"Statement": {"Condition": {"StringNotEquals": {"a": "1"}}}},
        ),
        ({"Statement": {"Condition": {"Null": "x"}}}, {"Statement": {"Condition": {"Null": "y"}}}),
        ({"Statement": ["a"]}, {"Statement": ["b"]}),
        ({"Statement": []}, {"Statement": [{}]}),
        ({}, {"Statement": [{}]}),
    ],
)
def test_document_of_any_shape_equals_only_itself(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Document.of(one) == Document(json.dumps(one, indent=2))
    assert Document.of(one) != Document.of(other)


@pytest.mark.parametrize("text", ["[]", "null", '"Allow"', "7"])
def test_document_that_is_no_object_equals_only_itself(text: str) -> None:
    assert Document(text) == Document(f" {text}")
    assert hash(Document(text)) == hash(Document(f" {text}"))
    assert Document(text) != Document("{}")


def test_document_does_not_equal_a_string() -> None:
    assert Document("{}") != "{}"


def test_size_is_in_characters_without_white_space() -> None:
    document = Document.of({"Statement": [{"Sid": "é ü"}]})

    assert document.text == '{"Statement":[{"Sid":"é ü"}]}'
    assert document.size == 29
    assert document.content == {"Statement": [{"Sid": "é ü"}]}
