"""AssumeRole: roles that can't be assumed, trust policies, durations, session tags and source identities."""

import re
from http import HTTPStatus
from math import ceil
from typing import Any

from emulator.organizations import is_accessible
from ministack.app import _routing_params
from ministack.core import iam_evaluator
from ministack.core.responses import get_region
from ministack.core.router import extract_access_key_id
from ministack.services import iam
from ministack.services import sts as ministack

_MAX_CHAINED_SECONDS = 3_600
_UNPACKED = b"<PackedPolicySize>0<"
_MAX_SESSION_POLICY_CHARS = 2_048
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/.+")


def patch() -> None:
    """Reject what AWS rejects before ministack creates a session, and store what the session passes on."""
    # In its own account, a trust policy that names a principal allows it without a policy of the principal.
    iam_evaluator._RESOURCE_POLICY_LOOKUPS["sts"] = ("sts", _trust_policy_for_arn.__name__)
    ministack._trust_policy_for_arn = _trust_policy_for_arn
    handle_request = ministack.handle_request

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        params = _routing_params(method, path, headers, body, query)
        if ministack._p(params, "Action") != "AssumeRole":
            return await handle_request(method, path, headers, body, query)
        assumption = _Assumption(params, extract_access_key_id(headers, query))
        response = assumption.error() or await handle_request(method, path, headers, body, query)
        if response[0] != HTTPStatus.OK:
            return response
        status, headers, body = response
        assumption.store_inherited(body.decode())
        return status, headers, body.replace(_UNPACKED, b"<PackedPolicySize>%d<" % assumption.packed_policy_percent)

    ministack.handle_request = handle


def _role_for_arn(arn: str) -> dict[str, Any] | None:
    role: dict[str, Any] | None = iam._roles.get_scoped(arn.split(":")[4], None, arn.rpartition("/")[2])
    return role


def _trust_policy_for_arn(arn: str) -> tuple[str, str] | None:
    """Return a role's trust policy and account, or None if the ARN is not an existing role's."""
    role = _role_for_arn(arn) if _ROLE_ARN.fullmatch(arn) else None
    return (role["AssumeRolePolicyDocument"], arn.split(":")[4]) if role else None


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

    @property
    def packed_policy_percent(self) -> int:
        """The size of the session policy in percent of the longest one; how AWS packs it isn't documented."""
        return ceil(100 * len(ministack._p(self._params, "Policy") or "") / _MAX_SESSION_POLICY_CHARS)

    def error(self) -> Any:
        """Return an error response, or None if the request is valid."""
        for check in (self._check_role, self._check_duration, self._check_tags_and_identity):
            if error := check():
                return error
        return None

    def store_inherited(self, response: str) -> None:
        """Store what role chaining passes on: the source identity and transitive tags."""
        match = re.search("<AccessKeyId>(.*?)</AccessKeyId>", response)
        session = ministack._sessions[match[1] if match else ""]
        transitive = {
            value for name, (value, *_) in self._params.items() if name.startswith("TransitiveTagKeys.member.")
        }
        session["SourceIdentity"] = self._identity
        session["SessionTags"] = self._tags
        session["TransitiveTags"] = [tag for tag in self._tags if tag["Key"] in transitive] + self._inherited_tags

    def _check_role(self) -> Any:
        """Deny a role that doesn't exist, whose path is missing, or whose account isn't accessible, all alike."""
        if not _ROLE_ARN.fullmatch(self._role_arn):
            return None  # ministack rejects it.
        role = _role_for_arn(self._role_arn)
        if role and role["Arn"] == self._role_arn and is_accessible(self._role_arn.split(":")[4]):
            return None
        return self._denied("sts:AssumeRole")

    def _check_duration(self) -> Any:
        """Reject a session that is longer than the role allows, or than one hour with role chaining."""
        seconds, role = int(ministack._p(self._params, "DurationSeconds") or 0), _role_for_arn(self._role_arn)
        if role and seconds > role.get("MaxSessionDuration", _MAX_CHAINED_SECONDS):
            return ministack._error(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
                ns="sts",
            )
        if self._chained and seconds > _MAX_CHAINED_SECONDS:
            return ministack._error(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
                ns="sts",
            )
        return None

    def _check_tags_and_identity(self) -> Any:
        """Deny requested or inherited tags and identities that the caller's or the trust policy doesn't allow."""
        if self._inherited_identity not in {"", self._identity}:
            return self._denied("sts:SetSourceIdentity")
        for action, value in (("sts:SetSourceIdentity", self._identity), ("sts:TagSession", self._tags)):
            if value and not self._allowed(action):
                return self._denied(action)
        return None

    def _allowed(self, action: str) -> bool:
        context = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in self._tags} | {
            "aws:TagKeys": [tag["Key"] for tag in self._tags],
            "sts:SourceIdentity": self._identity or None,
            "sts:RoleSessionName": ministack._p(self._params, "RoleSessionName"),
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
        role = _role_for_arn(self._role_arn)
        return role is not None and iam_evaluator.evaluate_trust_policy(
            role["AssumeRolePolicyDocument"], caller.arn, trust
        )

    def _denied(self, action: str) -> Any:
        caller = iam_evaluator.resolve_principal(self._access_key, "")
        message = (
            f"User: {getattr(caller, 'arn', '')} is not authorized to perform: {action} on resource: {self._role_arn}"
        )
        return ministack._error(403, "AccessDenied", message, ns="sts")
