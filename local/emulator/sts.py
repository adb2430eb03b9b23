"""AssumeRole: which roles can be assumed at all, and what a session may carry."""

import re
from http import HTTPStatus
from typing import Any

from emulator.organizations import lets_in
from ministack.app import _routing_params
from ministack.core import iam_evaluator
from ministack.core.responses import get_region
from ministack.core.router import extract_access_key_id
from ministack.services import iam
from ministack.services import sts as ministack

_CHAINED_SECONDS = 3_600
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/.+")


def mend() -> None:
    """Refuse what AWS refuses before ministack makes a session, and remember what the session carries on."""
    handle_request = ministack.handle_request

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        params = _routing_params(method, path, headers, body, query)
        if ministack._p(params, "Action") != "AssumeRole":
            return await handle_request(method, path, headers, body, query)
        assumption = _Assumption(params, extract_access_key_id(headers, query))
        answer = assumption.refusal() or await handle_request(method, path, headers, body, query)
        if answer[0] == HTTPStatus.OK:
            assumption.hand_on(answer[2].decode())
        return answer

    ministack.handle_request = handle


class _Assumption:
    """One request to assume a role."""

    def __init__(self, params: dict[str, Any], access_key: str) -> None:
        self._params = params
        self._access_key = access_key
        self._role_arn = str(ministack._p(params, "RoleArn"))
        session = ministack._sessions.get(access_key) or {}
        self._chained = ":assumed-role/" in session.get("Arn", "")
        self._inherited_identity = session.get("SourceIdentity", "")
        self._identity = ministack._p(params, "SourceIdentity") or self._inherited_identity
        self._inherited_tags: list[dict[str, str]] = session.get("TransitiveTags", [])
        self._tags = iam._extract_tags(params) + self._inherited_tags

    def refusal(self) -> Any:
        for check in (self._no_such_role, self._too_long, self._not_to_carry):
            if refused := check():
                return refused
        return None

    def hand_on(self, answer: str) -> None:
        """Keep with the session what AWS hands on along a chain: the source identity, and the tags marked transitive."""
        match = re.search("<AccessKeyId>(.*?)</AccessKeyId>", answer)
        session = ministack._sessions[match[1] if match else ""]
        transitive = {
            value for name, (value, *_) in self._params.items() if name.startswith("TransitiveTagKeys.member.")
        }
        session["SourceIdentity"] = self._identity
        session["SessionTags"] = self._tags
        session["TransitiveTags"] = [tag for tag in self._tags if tag["Key"] in transitive] + self._inherited_tags

    def _role(self) -> dict[str, Any] | None:
        account_id, name = self._role_arn.split(":")[4], self._role_arn.rpartition("/")[2]
        role: dict[str, Any] | None = iam._roles.get_scoped(account_id, None, name)
        return role

    def _no_such_role(self) -> Any:
        """Refuse alike, as AWS does, a role that is not there, one named without its path, and any of an account not to be entered."""
        if not _ROLE_ARN.fullmatch(self._role_arn):
            return None  # Ministack's own validation answers.
        role = self._role()
        if role and role["Arn"] == self._role_arn and lets_in(self._role_arn.split(":")[4]):
            return None
        return self._denied("sts:AssumeRole")

    def _too_long(self) -> Any:
        """Refuse a session longer than its role allows, or than an hour where one role assumes another."""
        seconds, role = int(ministack._p(self._params, "DurationSeconds") or 0), self._role()
        if role and seconds > role.get("MaxSessionDuration", _CHAINED_SECONDS):
            return ministack._error(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
                ns="sts",
            )
        if self._chained and seconds > _CHAINED_SECONDS:
            return ministack._error(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
                ns="sts",
            )
        return None

    def _not_to_carry(self) -> Any:
        """Refuse a source identity or tags, handed in or inherited, that the caller's policy or the role's trust does not allow."""
        if self._inherited_identity not in {"", self._identity}:
            return self._denied("sts:SetSourceIdentity")
        for action, carried in (("sts:SetSourceIdentity", self._identity), ("sts:TagSession", self._tags)):
            if carried and not self._allowed(action):
                return self._denied(action)
        return None

    def _allowed(self, action: str) -> bool:
        context = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in self._tags} | {
            "aws:TagKeys": [tag["Key"] for tag in self._tags],
            "sts:SourceIdentity": self._identity or None,
            "sts:RoleSessionName": ministack._p(self._params, "RoleSessionName"),
            "sts:ExternalId": ministack._p(self._params, "ExternalId") or None,
        }
        if iam_evaluator.enforce(self._access_key, action, "sts", get_region(), self._role_arn, context):
            return False
        caller = iam_evaluator.resolve_principal(self._access_key, "")
        if isinstance(caller, iam_evaluator.AuthError):
            return False
        trust = iam_evaluator.EvalContext(
            principal_arn=caller.arn,
            principal_type=caller.type,
            principal_account=caller.account,
            action=action,
            resource_arn=self._role_arn,
            region=get_region(),
            service_context={key.lower(): value for key, value in context.items()},
            principal_keys=caller.keys,
        )
        role = self._role()
        return role is not None and iam_evaluator.evaluate_trust_policy(
            role["AssumeRolePolicyDocument"], caller.arn, trust
        )

    def _denied(self, action: str) -> Any:
        caller = iam_evaluator.resolve_principal(self._access_key, "")
        message = (
            f"User: {getattr(caller, 'arn', '')} is not authorized to perform: {action} on resource: {self._role_arn}"
        )
        return ministack._error(403, "AccessDenied", message, ns="sts")
