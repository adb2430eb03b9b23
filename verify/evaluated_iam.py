"""The independent evaluator's answers to questions about a world."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.end_to_end.authorization.world import ELSEWHERE, OUTSIDE, Question, World
from tests.end_to_end.authorization.written import Written, principal_arn, role_arn
from verify.evaluator import ALLOWED, AccessRequest, Evaluator

_NO_ROLE: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:*"}],
}
_DECISIONS = {ALLOWED, "ImplicitlyDenied", "ExplicitlyDenied"}


class EvaluatedIam:
    """A world's policies, evaluated without any IAM that contains them."""

    organization_id = "o-abcdefghij"

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def allowed(self, world: World, content: Written) -> list[bool]:
        """Return whether each request of the world's questions is allowed: all of the actions that it needs."""
        documents: dict[str, Any] = {"no role": _NO_ROLE, **content.trusts}
        for principal, held in content.principals.items():
            for name, document in (held.source_policies | held.boundary).items():
                documents[f"{principal.account_id} {name}"] = document
            documents |= {
                f"{principal.resource} of {principal.account_id} {n}": each for n, each in enumerate(held.own)
            }
        requests = [list(self._requests(world, content, question)) for question in world.questions]
        decisions = iter(self._evaluator.evaluate(documents, [each for actions in requests for each in actions]))
        answers = [[next(decisions) for _ in actions] for actions in requests]
        assert {each for actions in answers for each in actions} <= _DECISIONS, answers
        return [set(actions) == {ALLOWED} for actions in answers]

    def _requests(self, world: World, content: Written, question: Question) -> Iterator[AccessRequest]:
        request, principal, account = question.request, question.principal, question.account
        held, role, arn = content.principals[principal], role_arn(world, question), principal_arn(world, principal)
        organizations = {OUTSIDE: {}, ELSEWHERE: {"ID": "o-another000"}}
        session = f"arn:{world.partition}:sts::{principal.account_id}:assumed-role/{principal.name}/reading"
        context = {
            "aws:PrincipalArn": arn,
            "aws:PrincipalAccount": principal.account_id,
            "aws:ResourceAccount": account.id,
        }
        for key, account_id in (("aws:PrincipalOrg", principal.account_id), ("aws:ResourceOrg", account.id)):
            organization = organizations.get(account_id, {"ID": self.organization_id})
            context |= {f"{key}{name}": value for name, value in organization.items()}

        def to(action: str, **keys: str) -> AccessRequest:
            return AccessRequest(
                principal=arn if principal.kind == "user" else session,
                action=action,
                resource=role,
                account_id=account.id,
                identity=(
                    *(f"{principal.account_id} {name}" for name in held.source_policies),
                    *(f"{principal.resource} of {principal.account_id} {n}" for n in range(len(held.own))),
                ),
                boundary=next((f"{principal.account_id} {name}" for name in held.boundary), None),
                trust=(role if role in content.trusts else "no role") if action.startswith("sts:") else None,
                context={**context, **keys},
            )

        if request.reads:
            yield to("iam:GetRole")
            return
        external_id = world.external_id(request)
        keys = {"sts:ExternalId": external_id} if external_id else {}
        yield to("sts:AssumeRole", **{"sts:RoleSessionName": "reading", **keys})
        if request.tags:
            yield to("sts:TagSession", **{"aws:RequestTag/team": "audit"})
        if request.identity:
            yield to("sts:SetSourceIdentity", **{"sts:SourceIdentity": "alice"})
