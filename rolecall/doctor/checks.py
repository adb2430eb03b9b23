"""All checks, in order; none depends on the result of another."""

import re
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from rolecall.aws_errors import DENIED
from rolecall.doctor import access_role, account_tags, deployed, location, operations, principals, stack_set, trail
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, CheckStatus, failed, unknown
from rolecall.errors import CommandError, DeniedError, InvalidSettingsError

CHECKS: tuple[Check, ...] = (
    *location.CHECKS,
    *trail.CHECKS,
    *deployed.CHECKS,
    *principals.CHECKS,
    *account_tags.CHECKS,
    *stack_set.CHECKS,
    *access_role.CHECKS,
    *operations.CHECKS,
)

_DENIED_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_REPEAT = "rolecall doctor, again"


def run_checks(context: Context) -> Iterator[tuple[Check, CheckResult]]:
    """Run every check that can be made, and yield its result. Raise CommandError without valid credentials."""
    _ = context.caller_arn
    is_deployed = are_usable = True
    for check in CHECKS:
        if check.permissions and not are_usable:
            yield check, CheckResult(CheckStatus.UNKNOWN, "not checked with these credentials")
            continue
        if check.needs_stage and not is_deployed:
            yield check, CheckResult(CheckStatus.UNKNOWN, f"stage {context.stage.name} is not deployed")
            continue
        result = _run(context, check)
        if check.name == "credentials":
            are_usable = result.status is not CheckStatus.FAILED
        if check.name == "stage":
            is_deployed = "is not deployed" not in result.summary
        yield check, result


def _run(context: Context, check: Check) -> CheckResult:
    try:
        return check.run(context)
    except InvalidSettingsError as error:
        return failed(str(error), context.deploy("--set NAME=VALUE"))
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = details.get("Code", ""), f"{details.get('Code', '')}: {details.get('Message', '')}"
        return denied(check, message, error.operation_name) if code in DENIED else unknown(message, _REPEAT)
    except DeniedError as error:
        return denied(check, str(error))
    except (CommandError, BotoCoreError) as error:
        return unknown(str(error), _REPEAT)


def denied(check: Check, message: str, operation: str = "") -> CheckResult:
    """Return the result of a check that lacks a permission, with the permission that it needs."""
    action = _DENIED_ACTION.search(message)
    needed = [action[1]] if action else [each for each in check.permissions if each.endswith(f":{operation}")]
    return unknown(message, f"allow these credentials {', '.join(needed or check.permissions)}")
