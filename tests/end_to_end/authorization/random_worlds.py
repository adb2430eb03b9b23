"""Random worlds, by Hypothesis. What allows access is more likely, so that each reason for a denial also occurs alone."""

from collections.abc import Iterator
from itertools import product
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.end_to_end.authorization.world import (
    ELSEWHERE,
    LAST,
    MANAGEMENT,
    MEMBER,
    OUTSIDE,
    SINGLE_SIGN_ON,
    SOURCE,
    UNITS,
    Account,
    ExternalId,
    Limit,
    Membership,
    Permission,
    Principal,
    Question,
    Record,
    Request,
    Stage,
    World,
)
from tests.end_to_end.function_sessions import FUNCTIONS

QUESTIONS_PER_WORLD = 40

T = TypeVar("T")
Draw = st.DrawFn

_TWO_SHARDS = 400  # accounts, more than fit one shard


def _mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    return st.sampled_from((usual,) * (4 * len(others)) + others)


def _each_stage(values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, T]]:
    return st.tuples(values, values)


_no_units = frozenset[str]()
_units = st.sampled_from((_no_units, frozenset(UNITS[:1]), frozenset(UNITS)))
_named_units = _mostly(_no_units, frozenset(UNITS[:1]), frozenset(UNITS[1:]))


def _account(account_id: str) -> st.SearchStrategy[Account]:
    outside = st.sampled_from((Membership.DEPARTED, Membership.DEPARTED_LATE))
    return st.builds(
        Account,
        id=st.just(account_id),
        membership=outside if account_id in {OUTSIDE, ELSEWHERE} else st.just(Membership.MEMBER),
        units=_units,
        records=_each_stage(_mostly(Record.RECONCILED, Record.NONE, Record.RETIRED)),
        roles=_each_stage(_mostly("", None, "elsewhere/")),
    )


_accounts = st.tuples(*map(_account, (MANAGEMENT, SOURCE, MEMBER, LAST, OUTSIDE, ELSEWHERE)))


def _identities(path: str) -> st.SearchStrategy[tuple[str, str, str, str]]:
    """Return account, kind, path and name of source principals, and of others that resemble them."""
    similar = [("role", path, "Reader"), ("role", "", "Reader2"), ("user", "", "Reader")]
    permission_sets = [
        ("role", SINGLE_SIGN_ON, f"AWSReservedSSO_{name}_0123456789abcdef") for name in ("Read", "Write")
    ]
    sources = [(account, *each) for account in (MANAGEMENT, SOURCE) for each in (*similar, *permission_sets)]
    functions = [(MANAGEMENT, "role", "", f"rolecall-{function}") for function in FUNCTIONS]
    elsewhere = [(account, "role", path, "Reader") for account in (MEMBER, OUTSIDE)]
    return st.one_of(*map(st.sampled_from, (sources, sources, sources, functions, elsewhere)))


@st.composite
def _principals(draw: Draw) -> tuple[Principal, ...]:
    identities = _identities(draw(_mostly("", "team/")))
    principals = []
    for account_id, kind, path, name in draw(st.lists(identities, min_size=4, max_size=7, unique=True)):
        # Outside of the source accounts, only other permissions could allow anything.
        none = (Permission.NONE,) * 3 if account_id in {MANAGEMENT, SOURCE} else ()
        own = st.sampled_from((*none, Permission.ASSUME, Permission.STS, Permission.ADMINISTRATOR))
        principal = Principal(
            account_id=account_id,
            kind=kind,
            path=path,
            name=name,
            own=Permission.FUNCTION if name.startswith("rolecall-") else draw(own),
            limit=draw(_mostly(*Limit)),
            attached=draw(st.sampled_from((frozenset({0, 1}), frozenset({0}), frozenset[int]()))),
        )
        principals.append(principal)
    return tuple(principals)


@st.composite
def _stage(draw: Draw, number: int, principals: tuple[Principal, ...]) -> Stage:
    homes = [each.account_id for each in principals if each.account_id in {MANAGEMENT, SOURCE}]
    source_account = draw(st.sampled_from(homes or [SOURCE]))
    here = sorted({each.named for each in principals if each.account_id == source_account}) or ["role/Absent"]
    sources = draw(st.one_of(st.just(("root",)), _some(here), _some(here)))
    fixed = not any(each.endswith("*") or each == "root" for each in sources)
    return Stage(
        number=number,
        source_account=source_account,
        sources=sources,
        whole_organization=draw(st.booleans()),
        external_id=draw(st.sampled_from(("", "Secret-1"))),
        excluded_accounts=frozenset(draw(_mostly((), (MEMBER,), (LAST, OUTSIDE)))),
        excluded_units=draw(_named_units),
        included_units=draw(_named_units),
        includes_management=draw(_mostly(True, False)),
        attaches=fixed and draw(_mostly(True, False)),
        frozen=draw(st.sampled_from((False, False, True))),
        others=draw(_mostly(1, _TWO_SHARDS)),
    )


def _some(names: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True).map(tuple)


def _likely_requests() -> Iterator[Request]:
    """Yield every request, as often as it is likely."""
    for stage, external_id, tags, identity in product((0, 1), ExternalId, (False, True), (False, True)):
        likely = 12 // (1 + tags + identity) if external_id is ExternalId.RIGHT else 1
        yield from [Request(stage=stage, external_id=external_id, tags=tags, identity=identity)] * likely
    yield from [Request(stage=0, reads=True), Request(stage=1, reads=True)] * 4


_REQUESTS = tuple(_likely_requests())


@st.composite
def _question(draw: Draw, accounts: tuple[Account, ...], asking: tuple[list[Principal], ...]) -> Question:
    request = draw(st.sampled_from(_REQUESTS))
    principal = draw(st.sampled_from(asking[request.stage]))
    # IAM's own calls reach only the caller's account.
    possible = [each for each in accounts if not request.reads or each.id == principal.account_id]
    return Question(principal=principal, account=draw(st.sampled_from(possible)), request=request)


@st.composite
def _world(draw: Draw, partitions: tuple[str, ...]) -> World:
    """A world with questions, most of them about source principals."""
    accounts, principals = draw(_accounts), draw(_principals())
    stages = (draw(_stage(0, principals)), draw(_stage(1, principals)))

    def asking(stage: Stage) -> list[Principal]:
        trusted = [each for each in principals if each.account_id == stage.source_account]
        sources = [each for each in trusted if each.named in stage.sources]
        return [*principals, *trusted * 3, *sources * 2 * len(principals)]

    question, count = _question(accounts, tuple(map(asking, stages))), QUESTIONS_PER_WORLD
    return World(
        partition=draw(st.sampled_from(partitions)),
        stages=stages,
        accounts=accounts,
        principals=principals,
        questions=tuple(draw(st.lists(question, min_size=count, max_size=count, unique=True))),
    )


def random_worlds(questions: int, partitions: tuple[str, ...] = ("aws",)) -> list[World]:
    """Return the same worlds every time, with at least so many questions together."""
    worlds: list[World] = []
    count = -(-questions // QUESTIONS_PER_WORLD)

    # Nothing fails here, and a question that is answered wrongly needs no shrinking.
    @hypothesis_settings(
        max_examples=count,
        phases=[Phase.generate],
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(world=_world(partitions))
    def collect(world: World) -> None:
        worlds.append(world)

    collect()
    assert len(worlds) == count
    return worlds
