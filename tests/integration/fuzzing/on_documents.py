"""Policies and roles that anybody may have made under our names: read, compared, taken over or refused, and never believed."""

import json
import re
from dataclasses import replace
from itertools import accumulate
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.data_read_denies import deny_document
from chalicelib.documents import Document
from chalicelib.member_role import desired_role, trust_document
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import ShardContent
from tests.integration.fuzzing.target import Target, World, ask
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.iam import Policy, Role
from tests.integration.simulation.members import ORGANIZATION_ID
from tests.integration.simulation.stages import environ, event, member_role_arn, settings_of, source_policy_arn
from tests.integration.simulation.strangers import DEPARTED, MEMBER, nobody_else_was_entered

_OURS = {"managed-by": "rolecall", "rolecall-stage": "simulation"}
_ADOPT = {"ADOPT_EXISTING_ROLES": "true"}
_ID = re.compile(r"[0-9]{12}")
_DEEPEST = 20  # IAM takes no document that is nested so far, and botocore would not read it


def _run(world: World, content: Any) -> None:
    """Take `policy`, `trust` and `inline`, any JSON; `policy_tags` and `role_tags`; and `adopt`."""
    if not isinstance(content, dict) or _depth(json.dumps(content)) > _DEEPEST:
        return
    documents = [Document(json.dumps(content.get(name))) for name in ("policy", "trust", "inline")]
    for each in documents:
        again = Document(json.dumps(json.loads(each.text), indent=1))
        assert (each == again, hash(each)) == (True, hash(again))
    settings = _ADOPT if content.get("adopt") is True else {}
    named = _named(world, documents[0])
    stage = world.strangers.empty(settings)
    stage.cloud.members.leave(DEPARTED)
    policy, trust, inline = (each.text for each in documents)
    tags = _tags(content.get("policy_tags"))
    if tags is not None:
        stage.cloud.iam.put(source_policy_arn(), Policy(source_policy_arn(), ((1, policy),), 1, 2, tags=tags))
    role_tags = _tags(content.get("role_tags"))
    role = Role(
        member_role_arn(MEMBER), trust, tags=role_tags or frozenset(), inline=frozenset({("DenyDataReads", inline)})
    )
    if role_tags is not None:
        stage.cloud.iam.put(role.arn, role)
    stage.invoke("on_account_event", event(MEMBER))
    stage.work()
    ask(stage, [["resync", {"dry_run": True}], ["resync", {}]])
    stage.work()
    nobody_else_was_entered(stage, besides=named, recorded=STRANGER in named)
    _is_desired_or_untouched(stage.cloud.iam.role(role.arn), role, settings)


def _depth(text: str) -> int:
    return max(accumulate((each in "[{") - (each in "]}") for each in text))


def _named(world: World, policy: Document) -> frozenset[str]:
    """List the accounts that a policy names, if it is one that publish writes."""
    content = world.parse(policy, settings_of(environ()), ORGANIZATION_ID)
    if content is None:
        return frozenset()
    named = content.accounts | content.excluded
    assert named <= set(_ID.findall(policy.text)), "only what a policy says is read from it"
    return frozenset(named)


def _is_desired_or_untouched(held: Role | None, before: Role, settings: dict[str, str]) -> None:
    """Require that a role is left as it was, or has the trust and the denial that it should have."""
    if held in {before, None}:
        return
    desired = desired_role(settings_of(environ(**settings)), MEMBER)
    assert held is not None
    assert Document(held.trust) == desired.trust
    assert {name: Document(text) for name, text in held.inline} == desired.inline


def _tags(told: Any) -> frozenset[tuple[str, str]] | None:
    if not isinstance(told, dict):
        return None
    return frozenset((name, value) for name, value in told.items() if isinstance(value, str))


def _seeds() -> list[Any]:
    settings = settings_of(environ())
    content = ShardContent(accounts=frozenset(map(AccountId, (MEMBER, STRANGER))))
    says = document(settings, content, ORGANIZATION_ID).content
    frozen = document(settings, replace(content, frozen=True), ORGANIZATION_ID).content
    trust, inline = trust_document(settings).content, deny_document().content
    inline["Statement"][0]["Action"] = inline["Statement"][0]["Action"][:3]
    single = {
        "Statement": {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Resource": [member_role_arn(MEMBER), member_role_arn(STRANGER)],
        }
    }
    rest = {"trust": trust, "inline": inline, "policy_tags": _OURS, "role_tags": _OURS}
    others = {"managed-by": "rolecall", "rolecall-stage": "another"}
    return [
        {"policy": says, **rest},
        {"policy": frozen, **rest},
        {"policy": single, **rest, "policy_tags": {}, "role_tags": {}, "adopt": True},
        {"policy": single, **rest, "policy_tags": others, "role_tags": others, "adopt": True},
        {"policy": {**says, "Statement": []}, **rest, "trust": inline, "inline": trust},
        {"policy": inline, **rest, "trust": {}, "inline": {}},
    ]


DOCUMENTS = Target(
    "documents",
    _run,
    _seeds,
    words=(
        *("Statement", "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"),
        *("StringEquals", "aws:ResourceAccount", "Allow", "Deny", "Frozen", "sts:AssumeRole", "STS:assumerole", "*"),
        *(member_role_arn(STRANGER), member_role_arn("*"), {"AWS": STRANGER}, f"arn:aws:iam::{STRANGER}:root", _OURS),
    ),
)
