"""Policies and roles that others created under our names: read, compared, and adopted or rejected."""

import json
import re
from dataclasses import replace
from itertools import accumulate
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.data_read_denies import deny_document
from chalicelib.documents import Document
from chalicelib.member_role import desired_role, trust_document
from chalicelib.source_policy.documents import document, parse
from chalicelib.source_policy.records import ShardContent
from tests.integration.fuzzing.target import Target, send_requests
from tests.integration.simulation.environment import environ, event, member_role_arn, settings_of, source_policy_arn
from tests.integration.simulation.example_stages import DEPARTED, MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.iam import Policy, Role
from tests.integration.simulation.members import ORGANIZATION_ID, UNKNOWN_ACCOUNT

_OURS = {"managed-by": "rolecall", "rolecall-stage": "simulation"}
_ADOPT = {"ADOPT_EXISTING_ROLES": "true"}
_ID = re.compile(r"[0-9]{12}")
_MAX_DEPTH = 20  # IAM rejects documents that are nested so far, and botocore couldn't parse them


def _run(stages: ExampleStages, content: Any) -> None:
    """Take `policy`, `trust` and `inline`, any JSON; `policy_tags` and `role_tags`; and `adopt`."""
    if not isinstance(content, dict) or _depth(json.dumps(content)) > _MAX_DEPTH:
        return
    documents = [Document(json.dumps(content.get(name))) for name in ("policy", "trust", "inline")]
    for each in documents:
        again = Document(json.dumps(json.loads(each.text), indent=1))
        assert (each == again, hash(each)) == (True, hash(again))
    settings = _ADOPT if content.get("adopt") is True else {}
    named = _named(documents[0])
    stage = stages.empty(settings)
    stage.cloud.members.leave(DEPARTED)
    policy, trust, inline = (each.text for each in documents)
    policy_tags, role_tags = _tags(content.get("policy_tags")), _tags(content.get("role_tags"))
    if policy_tags is not None:
        stage.cloud.iam.put(source_policy_arn(), Policy(source_policy_arn(), ((1, policy),), tags=policy_tags))
    inline_policies = frozenset({("DenyDataReads", inline)})
    role = Role(member_role_arn(MEMBER), trust, tags=role_tags or frozenset(), inline=inline_policies)
    if role_tags is not None:
        stage.cloud.iam.put(role.arn, role)
    stage.invoke("on_account_event", event(MEMBER))
    stage.drain()
    send_requests(stage, [["resync", {"dry_run": True}], ["resync", {}]])
    stage.drain()
    check_unknown_account(stage, named=named, recorded=UNKNOWN_ACCOUNT in named)
    _check_role(stage.cloud.iam.role(role.arn), role, settings)


def _depth(text: str) -> int:
    return max(accumulate((each in "[{") - (each in "]}") for each in text))


def _named(policy: Document) -> frozenset[str]:
    """Return the accounts that a policy names, if publish could have written it."""
    content = parse(policy, settings_of(environ()), ORGANIZATION_ID)
    if content is None:
        return frozenset()
    named = content.accounts | content.excluded
    assert named <= set(_ID.findall(policy.text)), "no account is read that the policy doesn't contain"
    return frozenset(named)


def _check_role(role: Role | None, before: Role, settings: dict[str, str]) -> None:
    """Check that a role was not changed, or has the desired trust and inline policy."""
    if role is None or role == before:
        return
    desired = desired_role(settings_of(environ(**settings)), MEMBER)
    assert Document(role.trust) == desired.trust
    assert {name: Document(text) for name, text in role.inline} == desired.inline


def _tags(content: Any) -> frozenset[tuple[str, str]] | None:
    if not isinstance(content, dict):
        return None
    return frozenset((name, value) for name, value in content.items() if isinstance(value, str))


def _seeds() -> list[Any]:
    settings = settings_of(environ())
    content = ShardContent(accounts=frozenset(map(AccountId, (MEMBER, UNKNOWN_ACCOUNT))))
    shard = document(settings, content, ORGANIZATION_ID).content
    frozen = document(settings, replace(content, frozen=True), ORGANIZATION_ID).content
    trust, inline = trust_document(settings).content, deny_document().content
    inline["Statement"][0]["Action"] = inline["Statement"][0]["Action"][:3]
    roles = [member_role_arn(MEMBER), member_role_arn(UNKNOWN_ACCOUNT)]
    single = {"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles}}
    rest = {"trust": trust, "inline": inline, "policy_tags": _OURS, "role_tags": _OURS}
    others = {"managed-by": "rolecall", "rolecall-stage": "another"}
    return [
        {"policy": shard, **rest},
        {"policy": frozen, **rest},
        {"policy": single, **rest, "policy_tags": {}, "role_tags": {}, "adopt": True},
        {"policy": single, **rest, "policy_tags": others, "role_tags": others, "adopt": True},
        {"policy": {**shard, "Statement": []}, **rest, "trust": inline, "inline": trust},
        {"policy": inline, **rest, "trust": {}, "inline": {}},
    ]


_ROOT = f"arn:aws:iam::{UNKNOWN_ACCOUNT}:root"
DOCUMENTS = Target(
    "documents",
    _run,
    _seeds,
    words=(
        *("Statement", "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"),
        *("StringEquals", "aws:ResourceAccount", "Allow", "Deny", "Frozen", "sts:AssumeRole", "STS:assumerole", "*"),
        *(member_role_arn(UNKNOWN_ACCOUNT), member_role_arn("*"), {"AWS": UNKNOWN_ACCOUNT}, _ROOT, _OURS),
    ),
)
