"""Every action of a plan rejected in turn, for every drift of a member role, and for every two and all of them together."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest

from chalicelib import reconciler
from chalicelib.documents import Document
from chalicelib.member_role_policies import only_denies
from tests.integration.simulation import steps
from tests.integration.simulation.calls import Call
from tests.integration.simulation.environment import POLICIES, member_role_arn
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.iam import Role
from tests.integration.simulation.mutants import replaced
from tests.integration.simulation.role_drifts import ROLE_DRIFTS
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY
from tests.integration.simulation.simulated_stage import SimulatedStage

ROLE = member_role_arn(FIRST)
# A role without tags is repaired only if roles may be adopted.
SETTINGS = {**MEMBERS_ONLY, "ADOPT_EXISTING_ROLES": "true"}
VARIANTS = {
    "defaults": {},
    "boundary": {"PERMISSIONS_BOUNDARY_ARN": "arn:aws:iam::aws:policy/ViewOnlyAccess"},
    "two policies, shorter sessions": {
        "MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit,arn:aws:iam::aws:policy/ReadOnlyAccess",
        "MEMBER_ROLE_MAX_SESSION": "3600",
    },
    "no deny": {"DENY_DATA_READS": "false"},
    "documents of the operator": {"MEMBER_ROLE_POLICIES": POLICIES},
}
COMBINATIONS = [*((name,) for name in ROLE_DRIFTS), *combinations(ROLE_DRIFTS, 2), tuple(ROLE_DRIFTS)]


def widened_by(role: Role, desired: Role) -> set[str]:
    """Return what of a role allows more than desired, by the call that would change it."""
    inline = dict(role.inline)
    return {
        *(f"DetachRolePolicy {arn}" for arn in role.attached - desired.attached),
        *(f"DeleteRolePolicy {name}" for name in inline.keys() - dict(desired.inline).keys()),
        *(
            f"PutRolePolicy {name}"
            for name, document in desired.inline
            if inline.get(name) != document and (name in inline or only_denies(Document(document)))
        ),
        *({"UpdateAssumeRolePolicy"} if role.trust != desired.trust else ()),
        *({"UpdateRole"} if role.max_session > desired.max_session else ()),
        *({"PutRolePermissionsBoundary"} if desired.boundary not in {None, role.boundary} else ()),
    }


def extended_by(role: Role, drifted: Role | None) -> set[str]:
    """Return what of a role allows more than before the plan."""
    before = drifted or Role(ROLE)
    return {
        *(f"AttachRolePolicy {arn}" for arn in role.attached - before.attached),
        *(
            f"PutRolePolicy {name}"
            for name, document in role.inline
            if name not in dict(before.inline) and not only_denies(Document(document))
        ),
        *({"DeleteRolePermissionsBoundary"} if before.boundary and not role.boundary else ()),
    }


def changed_by(call: Call) -> str:
    """Return a call as `widened_by` does."""
    detail = {"DetachRolePolicy": "PolicyArn", "DeleteRolePolicy": "PolicyName", "PutRolePolicy": "PolicyName"}
    return f"{call.name} {call.params[detail[call.name]]}" if call.name in detail else call.name


def _copy(stage: SimulatedStage) -> SimulatedStage:
    return SimulatedStage(stage.harness, dict(stage.settings), cloud=copy.deepcopy(stage.cloud))


def _reconcile(stage: SimulatedStage) -> list[tuple[int, Call]]:
    """Reconcile the account, and return the calls that wrote IAM with their numbers."""
    written: list[tuple[int, Call]] = []

    def note(call: Call) -> bool:
        if call.is_iam_write and call.params.get("RoleName"):
            written.append((stage.calls, call))
        return False

    stage.kill_after = note
    steps.invoke("backfill", {"accounts": [FIRST]})(stage)
    return written


def violations(settings: dict[str, str]) -> Iterator[str]:
    """Yield what a plan with one rejected action leaves wider than it may, for every drift and every action of its plan."""
    with simulated() as harness:
        stage = SimulatedStage(harness, SETTINGS | settings)
        steps.enrolled(stage)
        desired = stage.cloud.iam.role(ROLE)
        assert desired is not None
        drifted: dict[str, Role | None] = {"no role": None}
        for names in COMBINATIONS:
            role = desired
            for name in names:
                role = ROLE_DRIFTS[name](role)
            drifted[", ".join(names)] = role
        for title, each in drifted.items():
            stage.cloud.iam.put(ROLE, each)
            yield from _violations(title, stage, each, desired)


def _violations(title: str, stage: SimulatedStage, drifted: Role | None, desired: Role) -> Iterator[str]:
    undisturbed = _copy(stage)
    plan = _reconcile(undisturbed)
    repaired = undisturbed.cloud.iam.role(ROLE)
    assert repaired is not None
    assert replace(repaired, tags=repaired.tags & desired.tags) == desired
    for number, call in plan:
        attempt = _copy(stage)
        attempt.fault = (number, "quota")
        _reconcile(attempt)
        assert attempt.fault_met
        row = attempt.cloud.row(FIRST)
        assert (row["reason"], row["access"]) == ("quota", "granted")
        role = attempt.cloud.iam.role(ROLE)
        if role is None:
            assert call.name == "CreateRole"
            continue
        left = widened_by(role, desired)
        if not left <= {changed_by(call)}:
            yield f"{title}: {call} is rejected: {left} is left"
        if left and (more := extended_by(role, drifted)):
            yield f"{title}: {call} is rejected: {left} is left, and {more} is done"


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_rejected_action_leaves_nothing_else_wider(settings: dict[str, str]) -> None:
    assert list(violations(settings)) == []


@pytest.mark.parametrize(
    ("restricts", "message"), [(False, "is left"), (True, "is done")], ids=["plan stops", "plan goes on"]
)
def test_other_plans_are_caught(restricts: bool, message: str) -> None:
    """Mutants: a plan that stops at the first rejected action, and one of which every other action is carried out."""
    with replaced(reconciler, "restricts", lambda *_: restricts):
        found = list(violations({}))

    assert any(message in each for each in found)
