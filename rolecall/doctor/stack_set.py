"""The check of the access role's StackSet: trusted access, failed instances, use of other roles."""

from collections.abc import Iterable, Sequence

from chalicelib.accounts import LedgerRow, Outcome
from rolecall.access_role_stack_set import (
    ACTIVATE,
    FailedInstance,
    read_failed_instances,
    retry_command,
    trusted_access,
)
from rolecall.console import counted, first_of
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok

SECTION = "docs/access-roles.md#failed-instances"
_MAX_LISTED = 5


def check_stack_set(
    context: Context, name: str, access: str, failures: Sequence[FailedInstance] | None
) -> CheckResult | None:
    """Return missing trusted access, a missing StackSet or failed instances; None if there are none."""
    if access != "ENABLED":
        return failed(f"the trusted access of StackSets is {access}: new accounts get no access role", ACTIVATE)
    if failures is None:
        return failed(f"StackSet {name} does not exist", context.deploy("--set AccessRoleStackSet=true"))
    if failures:
        return failed(
            f"StackSet {name} failed in {counted(len(failures), 'account')}: {first_of(list(map(str, failures)), _MAX_LISTED, '; ')}",
            f"remove the cause ({SECTION}), then {retry_command(name, context.stage.region, failures[:_MAX_LISTED])}",
        )
    return None


def check_entered(role: str, rows: Iterable[LedgerRow]) -> CheckResult:
    """Check that enrolled accounts were last entered by the StackSet's role."""
    entered = [row for row in rows if row.outcome is Outcome.ENROLLED and row.access_role is not None]
    others = [f"{row.account_id} by {row.access_role}" for row in entered if row.access_role != role]
    if others:
        return failed(
            f"{counted(len(others), 'account')} could only be entered by another role than {role}: {first_of(others, _MAX_LISTED, '; ')}",
            f"rolecall resync; if that changes nothing, {SECTION}",
        )
    return ok(
        f"StackSet {role} has no failed instances, and enroll entered {counted(len(entered), 'account')} by its role"
    )


def _check(context: Context) -> CheckResult:
    role = context.settings.stack_set_role
    if role is None:
        return ok("not used (AccessRoleStackSet=false)")
    cloudformation = context.stage.client("cloudformation")
    access, failures = trusted_access(cloudformation), read_failed_instances(cloudformation, role)
    return check_stack_set(context, role, access, failures) or check_entered(role, context.rows)


CHECKS = (
    Check(
        name="StackSet",
        run=_check,
        permissions=(
            *("cloudformation:DescribeOrganizationsAccess", "cloudformation:ListStackInstances"),
            "dynamodb:Scan",
        ),
    ),
)
