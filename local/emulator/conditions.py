"""Condition keys and policy variables, as IAM resolves them."""

import dataclasses
import re
from typing import Any

from emulator.organizations import organization_id_of
from ministack.core import iam_evaluator
from ministack.services import iam

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def patch() -> None:
    """Wrap ministack's resolution of condition keys, and substitute policy variables before it compares."""
    resolve_condition_key = iam_evaluator._resolve_condition_key
    conditions_met = iam_evaluator._conditions_met
    first_match = iam_evaluator._first_match

    def resolve(key: str, context: Any) -> Any:
        resolver = _RESOLVERS.get(key.lower())
        return resolver(context) if resolver else resolve_condition_key(key, context)

    def met(conditions: Any, context: Any) -> bool:
        try:
            substituted = _substituted(conditions, context)
        except KeyError:
            return False
        return bool(conditions_met(substituted, context))

    def match(context: Any, statements: list[Any], effect: str) -> Any:
        return first_match(context, [_with_resources(statement, context) for statement in statements], effect)

    iam_evaluator._resolve_condition_key = resolve
    iam_evaluator._conditions_met = met
    iam_evaluator._first_match = match


def _with_resources(statement: Any, context: Any) -> Any:
    """Substitute the variables in a statement's resources."""
    if not any("${" in resource for resource in (*statement.resources, *statement.not_resources)):
        return statement
    try:
        return dataclasses.replace(
            statement,
            resources=_substituted(statement.resources, context),
            not_resources=_substituted(statement.not_resources, context),
        )
    except KeyError:
        return dataclasses.replace(statement, actions=["nothing:matches"], not_actions=[])


def _substituted(value: Any, context: Any) -> Any:
    """Substitute policy variables. Raise KeyError if one has no value: on AWS the statement then matches nothing."""
    if isinstance(value, dict):
        return {key: _substituted(item, context) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, context) for item in value]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(",")
        if name in {"*", "?", "$"}:
            return name
        resolved = iam_evaluator._resolve_condition_key(name.strip(), context)
        if resolved is None and not default:
            raise KeyError(name)
        return str(resolved) if resolved is not None else default.strip().strip("'")

    return _VARIABLE.sub(substitute, value)


def _principal_arn(context: Any) -> str:
    """Return the principal's ARN; for a session, the ARN of its role, including the path."""
    if context.principal_type != "AssumedRole":
        return str(context.principal_arn)
    name = iam_evaluator._role_name_from_assumed_arn(context.principal_arn)
    role = iam._roles.get_scoped(context.principal_account, None, name)
    return str(role["Arn"]) if role else str(context.principal_arn)


def _principal_organization(context: Any) -> str | None:
    """Return the organization of the principal, which may be in a member account."""
    return organization_id_of(context.principal_account)


def _resource_organization(context: Any) -> str | None:
    """Return the organization of the account that owns the resource, or None if it is in none."""
    return organization_id_of(iam_evaluator._resolve_condition_key("aws:ResourceAccount", context))


def _secure_transport(_context: Any) -> str:
    """Return true, as for calls over TLS, which the local endpoint doesn't use."""
    return "true"


_RESOLVERS = {
    "aws:principalarn": _principal_arn,
    "aws:principalorgid": _principal_organization,
    "aws:resourceorgid": _resource_organization,
    "aws:securetransport": _secure_transport,
}
