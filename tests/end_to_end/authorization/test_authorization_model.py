"""The local AWS answers as the model of authorization does, and mutants of the documents are found by that.

ROLECALL_QUESTIONS sets the number of questions.
"""

import os
from functools import partial
from itertools import cycle

from tests.end_to_end.authorization.agreement import disagreements, mutated, undetected
from tests.end_to_end.authorization.local_iam import LocalIam
from tests.end_to_end.authorization.mutants import EQUIVALENT
from tests.end_to_end.authorization.random_worlds import random_worlds
from tests.end_to_end.authorization.written import FunctionPolicies

QUESTIONS = int(os.environ.get("ROLECALL_QUESTIONS", "1000"))
MUTANT_QUESTIONS = 6_000  # three times what any mutant takes


def test_local_aws_answers_every_question_as_the_model(local_iam: LocalIam, functions: FunctionPolicies) -> None:
    for world in random_worlds(QUESTIONS):
        assert disagreements(local_iam, world, functions) == []


def test_mutants_of_the_documents_are_detected(local_iam: LocalIam, functions: FunctionPolicies) -> None:
    worlds = random_worlds(MUTANT_QUESTIONS)
    assert undetected(local_iam, worlds, functions, untried=EQUIVALENT) == EQUIVALENT.keys()


def test_equivalent_mutants_change_no_answer(local_iam: LocalIam, functions: FunctionPolicies) -> None:
    for world, name in zip(random_worlds(QUESTIONS), cycle(EQUIVALENT), strict=False):
        assert disagreements(local_iam, world, functions, partial(mutated, name)) == []
