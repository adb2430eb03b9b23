"""The local AWS's answers: the policies are written with IAM's calls, and the questions are calls of STS and IAM."""

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from local.controls import Call
from local.organization import LocalOrganization, trust_policy
from tests.end_to_end.authorization.world import ELSEWHERE, LAST, MEMBER, SOURCE, Principal, Question, World
from tests.end_to_end.authorization.written import Held, Written, principal_arn, role_arn

Key = tuple[str, str, str | None]


class LocalIam:
    """IAM of a local AWS organization, whose content is replaced for every world."""

    def __init__(self, organization: LocalOrganization) -> None:
        for account_id in (SOURCE, MEMBER, LAST):
            organization.invite_account(account_id)
        organization.set_other_organization([ELSEWHERE])
        self._organization = organization
        self.organization_id = organization.organization_id

    def allowed(self, world: World, content: Written) -> list[bool]:
        """Write the content, and return whether each request of the world's questions is allowed."""
        self._organization.reset_iam()
        calls = [*_roles(content), *_policies(content)]
        keys_at: dict[Principal, int] = {}
        for principal, held in content.principals.items():
            calls += _principal(world, principal, held)
            keys_at[principal] = len(calls) - 1
        responses = self._organization.call_all(calls)
        wrong = [body for status, body in responses if status != HTTPStatus.OK]
        assert not wrong, wrong
        questions = [_question(world, each, _key(responses[keys_at[each.principal]][1])) for each in world.questions]
        return [_is_allowed(*response) for response in self._organization.call_all(questions)]


def _roles(content: Written) -> Iterator[Call]:
    for arn, trust in content.trusts.items():
        *_, account_id, resource = arn.split(":")
        path, _, name = resource.removeprefix("role").rpartition("/")
        role = {"RoleName": name, "Path": f"{path}/", "AssumeRolePolicyDocument": json.dumps(trust)}
        yield _as_root(account_id, "CreateRole", role)


def _policies(content: Written) -> Iterator[Call]:
    policies = {
        (principal.account_id, name): document
        for principal, held in content.principals.items()
        for name, document in (held.source_policies | held.boundary).items()
    }
    for (account_id, name), document in policies.items():
        yield _as_root(account_id, "CreatePolicy", {"PolicyName": name, "PolicyDocument": json.dumps(document)})


def _principal(world: World, principal: Principal, held: Held) -> Iterator[Call]:
    """Create a principal with its policies; the response to the last call contains its credentials."""
    account_id, kind = principal.account_id, principal.kind.title()
    name = {f"{kind}Name": principal.name}
    created = {**name, "Path": f"/{principal.path}"}
    if kind == "Role":
        created["AssumeRolePolicyDocument"] = json.dumps(trust_policy(f"arn:aws:iam::{account_id}:root"))
    for boundary in held.boundary:
        created["PermissionsBoundary"] = f"arn:aws:iam::{account_id}:policy/{boundary}"
    yield _as_root(account_id, f"Create{kind}", created)
    for number, document in enumerate(held.own):
        own = {"PolicyName": f"own-{number}", "PolicyDocument": json.dumps(document)}
        yield _as_root(account_id, f"Put{kind}Policy", name | own)
    for policy in held.source_policies:
        attached = {"PolicyArn": f"arn:aws:iam::{account_id}:policy/{policy}"}
        yield _as_root(account_id, f"Attach{kind}Policy", name | attached)
    if kind == "User":
        yield _as_root(account_id, "CreateAccessKey", name)
    else:
        request = {"RoleArn": principal_arn(world, principal), "RoleSessionName": "reading"}
        yield _as_root(account_id, "AssumeRole", request, "sts")


def _question(world: World, question: Question, key: Key) -> Call:
    request, arn = question.request, role_arn(world, question)
    if request.reads:
        return _call("iam", key, "GetRole", {"RoleName": arn.rpartition("/")[2]})
    parameters = {"RoleArn": arn, "RoleSessionName": "reading"}
    if external_id := world.external_id(request):
        parameters["ExternalId"] = external_id
    if request.tags:
        parameters |= {"Tags.member.1.Key": "team", "Tags.member.1.Value": "audit"}
    if request.identity:
        parameters["SourceIdentity"] = "alice"
    return _call("sts", key, "AssumeRole", parameters)


def _as_root(account_id: str, action: str, parameters: Mapping[str, str], service: str = "iam") -> Call:
    return _call(service, (account_id, "test", None), action, parameters)


def _call(service: str, key: Key, action: str, parameters: Mapping[str, str]) -> Call:
    return Call(service=service, credentials=key, parameters={"Action": action, **parameters})


def _key(response: str) -> Key:
    found = {name: re.search(f"<{name}>(.*?)</{name}>", response) for name in _KEY}
    key, secret, token = (found[name] for name in _KEY)
    assert key
    assert secret
    return key[1], secret[1], token and token[1]


_KEY = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def _is_allowed(status: int, body: str) -> bool:
    """Whether a call was allowed; one about a role that doesn't exist fails only afterwards."""
    if status == HTTPStatus.FORBIDDEN:
        assert "<Code>AccessDenied</Code>" in body, body
        return False
    assert status == HTTPStatus.OK or "<Code>NoSuchEntity</Code>" in body, body
    return True
