"""Condition keys and policy variables, as IAM resolves them."""

import dataclasses
import re
from typing import Any

from emulator.organizations import organization_id_of
from ministack.core import iam_evaluator
from ministack.services import iam

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def mend() -> None:
    """Wrap how ministack resolves keys, and fill in variables before it compares."""
    resolve_condition_key = iam_evaluator._resolve_condition_key
    conditions_met = iam_evaluator._conditions_met
    first_match = iam_evaluator._first_match

    def resolve(key: str, context: Any) -> Any:
        known = _KEYS.get(key.lower())
        return known(context) if known else resolve_condition_key(key, context)

    def met(conditions: Any, context: Any) -> bool:
        try:
            filled = _filled(conditions, context)
        except KeyError:
            return False
        return bool(conditions_met(filled, context))

    def match(context: Any, statements: list[Any], effect: str) -> Any:
        return first_match(context, [_with_resources(statement, context) for statement in statements], effect)

    iam_evaluator._resolve_condition_key = resolve
    iam_evaluator._conditions_met = met
    iam_evaluator._first_match = match


def _with_resources(statement: Any, context: Any) -> Any:
    """Fill in the variables of a statement's resources."""
    if not any("${" in resource for resource in (*statement.resources, *statement.not_resources)):
        return statement
    try:
        return dataclasses.replace(
            statement,
            resources=_filled(statement.resources, context),
            not_resources=_filled(statement.not_resources, context),
        )
    except KeyError:
        return dataclasses.replace(statement, actions=["nothing:matches"], not_actions=[])


def _filled(value: Any, context: Any) -> Any:
    """On AWS a statement with a variable that has no value matches nothing: a KeyError tells."""
    if isinstance(value, dict):
        return {key: _filled(item, context) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, context) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(",")
        if name in {"*", "?", "$"}:
            return name
        found = iam_evaluator._resolve_condition_key(name.strip(), context)
        if found is None and not default:
            raise KeyError(name)
        return str(found) if found is not None else default.strip().strip("'")

    return _VARIABLE.sub(fill, value)


def _principal_arn(context: Any) -> str:
    """For a session AWS gives the ARN of its role, path included."""
    if context.principal_type != "AssumedRole":
        return str(context.principal_arn)
    name = iam_evaluator._role_name_from_assumed_arn(context.principal_arn)
    role = iam._roles.get_scoped(context.principal_account, None, name)
    return str(role["Arn"]) if role else str(context.principal_arn)


def _principal_organization(context: Any) -> str | None:
    """On AWS members, too, carry their organization's id."""
    return organization_id_of(context.principal_account)


def _resource_organization(context: Any) -> str | None:
    """AWS tells the organization of the account that owns the resource, where it is a member of one."""
    return organization_id_of(iam_evaluator._resolve_condition_key("aws:ResourceAccount", context))


def _secure_transport(_context: Any) -> str:
    """AWS is called over TLS; the loopback address stands in for it."""
    return "true"


_KEYS = {
    "aws:principalarn": _principal_arn,
    "aws:principalorgid": _principal_organization,
    "aws:resourceorgid": _resource_organization,
    "aws:securetransport": _secure_transport,
}
