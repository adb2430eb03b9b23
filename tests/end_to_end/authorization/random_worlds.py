"""Random worlds. What allows access is more likely, so that each reason for a denial also occurs alone.

Hypothesis draws only the seed of each world: it varies earlier examples, so that most worlds would have the same stages.
"""

from dataclasses import replace
from itertools import product
from random import Random
from typing import TypeVar

from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.end_to_end.authorization.world import (
    ELSEWHERE,
    ENVIRONMENTS,
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

_TWO_SHARDS = 400  # accounts, more than fit one shard
_SIMILAR = (("role", "Reader2"), ("user", "Reader"))
_PERMISSION_SETS = tuple(f"AWSReservedSSO_{name}_0123456789abcdef" for name in ("Read", "Write"))

T = TypeVar("T")
Stages = tuple[Stage, Stage]


def random_worlds(questions: int, partitions: tuple[str, ...] = ("aws",)) -> list[World]:
    """Return the same worlds every time, with so many questions together."""
    worlds: dict[World, None] = {}
    count = -(-questions // QUESTIONS_PER_WORLD)

    # Nothing fails here, and a question that is answered wrongly needs no shrinking.
    @hypothesis_settings(
        max_examples=2 * count, phases=[Phase.generate], derandomize=True, deadline=None, database=None
    )
    @given(random=st.randoms(use_true_random=True))
    def collect(random: Random) -> None:
        if len(worlds) < count:
            worlds[_world(random, partitions)] = None

    collect()
    assert len(worlds) == count
    return list(worlds)


def _world(random: Random, partitions: tuple[str, ...]) -> World:
    principals = _principals(random)
    accounts = tuple(_account(random, each) for each in (MANAGEMENT, SOURCE, MEMBER, LAST, OUTSIDE, ELSEWHERE))
    stages = (_stage(random, 0, principals), _stage(random, 1, principals))
    questions: dict[Question, None] = {}
    while len(questions) < QUESTIONS_PER_WORLD:
        questions[_question(random, accounts, principals, stages)] = None
    return World(
        partition=random.choice(partitions),
        stages=stages,
        accounts=accounts,
        principals=principals,
        questions=tuple(questions),
    )


def _mostly(random: Random, usual: T, *others: T) -> T:
    return usual if random.random() < 0.75 else random.choice(others)


def _account(random: Random, account_id: str) -> Account:
    membership = Membership.MEMBER
    if account_id in {OUTSIDE, ELSEWHERE}:
        membership = random.choice((Membership.DEPARTED, Membership.DEPARTED_LATE))

    def record() -> Record:
        return _mostly(random, Record.RECONCILED, Record.NONE, Record.RETIRED)

    def role() -> str | None:
        return _mostly(random, "", None, "elsewhere/")

    units = frozenset(random.sample(UNITS, random.randint(0, len(UNITS))))
    return Account(
        id=account_id,
        membership=membership,
        units=units,
        env=random.choice((None, *ENVIRONMENTS)),
        records=(record(), record()),
        roles=(role(), role()),
    )


def _principals(random: Random) -> tuple[Principal, ...]:
    """Return source principals, others that resemble them, and functions."""
    path = random.choice(("", "team/"))
    named = [("role", path, "Reader"), *((kind, "", name) for kind, name in _SIMILAR)]
    named += [("role", SINGLE_SIGN_ON, name) for name in _PERMISSION_SETS]
    sources = random.sample(list(product((MANAGEMENT, SOURCE), named)), random.randint(3, 6))
    others = random.sample([*product((MEMBER, OUTSIDE), named[:1]), *((MANAGEMENT, each) for each in _FUNCTIONS)], 2)
    return tuple(_principal(random, account_id, *names) for account_id, names in (*sources, *others))


_FUNCTIONS = tuple(("role", "", f"rolecall-{function}") for function in FUNCTIONS)


def _principal(random: Random, account_id: str, kind: str, path: str, name: str) -> Principal:
    own = random.choice((Permission.NONE, Permission.NONE, Permission.ASSUME, Permission.STS, Permission.ADMINISTRATOR))
    return Principal(
        account_id=account_id,
        kind=kind,
        path=path,
        name=name,
        own=Permission.FUNCTION if name.startswith("rolecall-") else own,
        limit=_mostly(random, *Limit),
        attached=frozenset(number for number in (0, 1) if random.random() < 0.75),
    )


def _stage(random: Random, number: int, principals: tuple[Principal, ...]) -> Stage:
    source_account = random.choice([each.account_id for each in principals if each.account_id in {MANAGEMENT, SOURCE}])
    here = [each.named for each in principals if each.account_id == source_account]
    sources = ("root",) if random.random() < 0.3 else tuple(random.sample(here, min(len(here), random.randint(1, 2))))
    is_fixed = not any(each.endswith("*") or each == "root" for each in sources)
    stage = Stage(
        number=number,
        source_account=source_account,
        sources=sources,
        whole_organization=random.random() < 0.5,
        external_id=random.choice(("", "Secret-1")),
        excluded_accounts=frozenset(_mostly(random, (), (MEMBER,), (LAST, OUTSIDE))),
        excluded_units=frozenset(_mostly(random, (), *((each,) for each in UNITS))),
        included_units=frozenset(_mostly(random, (), *((each,) for each in UNITS))),
        excluded_env=_mostly(random, None, "dev", "*"),
        included_env=_mostly(random, None, "prod", "*"),
        includes_management=_mostly(random, True, False),
        attaches=is_fixed and _mostly(random, True, False),
        frozen=_mostly(random, False, True),
        others=_mostly(random, 1, _TWO_SHARDS),
    )
    return stage if random.random() < 0.75 else _without_source_policy(random, stage, principals)


def _without_source_policy(random: Random, stage: Stage, principals: tuple[Principal, ...]) -> Stage:
    """Return the stage in scope none, with source principals in further accounts, which need an external id."""
    others = [
        each for each in principals if each.account_id != stage.source_account and each.own is not Permission.FUNCTION
    ]
    chosen = random.sample(others, min(len(others), random.randint(0, 2)))
    whole = {each.account_id for each in chosen if random.random() < 0.3}
    elsewhere = {(each.account_id, "root" if each.account_id in whole else each.named) for each in chosen}
    is_outside = any(account_id in {OUTSIDE, ELSEWHERE} for account_id, _ in elsewhere)
    return replace(
        stage,
        keeps_source_policy=False,
        elsewhere=tuple(sorted(elsewhere)),
        external_id="Secret-1" if is_outside else stage.external_id,
    )


def _question(
    random: Random, accounts: tuple[Account, ...], principals: tuple[Principal, ...], stages: Stages
) -> Question:
    """Return a question, most likely about a source principal, or else about another principal of the source account."""
    stage = random.choice(stages)
    here = [each for each in principals if each.account_id == stage.source_account]
    sources = [each for each in here if each.named in stage.sources]
    sources += [
        each for each in principals if {(each.account_id, "root"), (each.account_id, each.named)} & {*stage.elsewhere}
    ]
    others = [each for each in here if each not in sources]
    asking = random.choice((sources, sources, sources, others, principals))
    principal = random.choice(asking or principals)
    if random.random() < 0.1:  # IAM's own calls reach only the caller's account.
        (own,) = (each for each in accounts if each.id == principal.account_id)
        return Question(principal=principal, account=own, request=Request(stage=stage.number, reads=True))
    request = Request(
        stage=stage.number,
        external_id=_mostly(random, ExternalId.RIGHT, ExternalId.ABSENT, ExternalId.OTHER_CASE, ExternalId.GUESSED),
        tags=_mostly(random, False, True),
        identity=_mostly(random, False, True),
    )
    return Question(principal=principal, account=random.choice(accounts), request=request)
