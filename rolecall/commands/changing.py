"""The commands that enroll accounts and revoke access. What they need is imported when they run, as in `reading`."""

from typing import TYPE_CHECKING, Annotated

import typer

from chalicelib.errors import Reason
from rolecall.options import ONE_HOUR, AccountIds, AsJson, NoWait, OptionalAccountIds, Ous, Timeout, Yes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolecall.exit_status import ExitStatus
    from rolecall.operation import Operation


def backfill(
    context: typer.Context,
    *,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Send N accounts, wait for them, then send the rest.")
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="M", help="With --first: stop if more than M of the first accounts fail.")
    ] = 0,
    ous: Ous = None,
    force: Annotated[
        bool, typer.Option("--force", help="Retire more accounts at once than MaxRetiredPercent allows.")
    ] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Enroll every eligible account, and verify the enrolled ones.

    Sends the organization's accounts to the queue and waits until each is
    finished and its access in force; then shows the outcomes and what to do
    about failures. A new account that is not set up yet is retried. Ctrl-C
    stops the waiting, not the work. On a terminal, shows the counts of a plan
    and asks for confirmation. With --force, shows which accounts would lose
    access, and asks, on a terminal or not.

    Exit status: 0, 1 if an account failed, 2 if some are not finished.

    Examples:
        rolecall backfill
        rolecall backfill --first 5 --max-failures 1
        rolecall backfill --ou ou-ab12-11111111 --no-wait
    """
    from rolecall import enrollment

    canary = enrollment.Canary(first, max_failures) if first else None
    raise _run(
        context,
        lambda operation: enrollment.backfill(operation, ous=ous or (), force=force, canary=canary),
        as_json=as_json,
        yes=yes,
        no_wait=no_wait,
        timeout=timeout,
    )


def resync(
    context: typer.Context,
    *,
    only_new: Annotated[
        bool, typer.Option("--new", help="Only accounts that are new, that changed state or OU, or that left.")
    ] = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Verify every account and the source policy, and repair drift.

    Does what the schedules do: daily for every account and every shard, hourly
    with --new. Waits until each account is finished and publish has checked the
    source policy against IAM, and shows the repairs. With RolloutPercent below
    100, of the roles made for other settings it changes the next wave.

    Exit status: 0, 1 if an account failed, a rollout is stopped, a shard could
    not be written or publishing is blocked, 2 if accounts are not finished or the source policy
    was not checked in time.

    Examples:
        rolecall resync
        rolecall resync --new --no-wait
    """
    from rolecall import enrollment

    raise _run(
        context,
        lambda operation: enrollment.resync(operation, only_new=only_new),
        as_json=as_json,
        no_wait=no_wait,
        timeout=timeout,
    )


def enroll(
    context: typer.Context,
    accounts: AccountIds,
    *,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Enroll or verify accounts by their ids or names.

    Sends them to the queue, waits until each is finished, and shows the
    outcomes. Accounts that were retired by request are enrolled again.

    Exit status: 0, 1 if an account failed, 2 if some are not finished.

    Examples:
        rolecall enroll payments
        rolecall enroll 444455556666 777788889999 --timeout 600
    """
    from rolecall import enrollment
    from rolecall.accounts import resolve_accounts

    raise _run(
        context,
        lambda operation: enrollment.enroll(operation, resolve_accounts(operation.stage, accounts)),
        as_json=as_json,
        no_wait=no_wait,
        timeout=timeout,
    )


def rerun(
    context: typer.Context,
    accounts: OptionalAccountIds = None,
    *,
    reasons: Annotated[
        list[Reason] | None,
        typer.Option("--reason", metavar="REASON", help="Only failures with this reason. Repeatable."),
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Retry failed accounts, once the cause is fixed.

    Sends all failed accounts to the queue, or some by id, name or reason, and waits
    for them. Accounts that are being retried are not sent. Also redrives the
    dead-letter queues.

    Exit status: 0, 1 if an account failed again, 2 if some are not finished.

    Examples:
        rolecall rerun
        rolecall rerun --reason scp_denied --reason quota
        rolecall rerun 444455556666
    """
    from rolecall import enrollment
    from rolecall.accounts import resolve_accounts

    if accounts and reasons:
        raise typer.BadParameter("pass accounts or --reason, not both", context)
    raise _run(
        context,
        lambda operation: enrollment.rerun(operation, resolve_accounts(operation.stage, accounts or ()), reasons or ()),
        as_json=as_json,
        no_wait=no_wait,
        timeout=timeout,
    )


def retire(
    context: typer.Context,
    accounts: AccountIds,
    *,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Revoke the access of accounts, and delete their roles.

    Shows what would be revoked and deleted, and asks for confirmation. A role
    is deleted once the source policy in IAM no longer grants its account; until
    then the account is pending. A retired account stays retired through events
    and sweeps, until rolecall enroll.

    Exit status: 0, 1 if a role is left, 2 if some are not finished.

    Examples:
        rolecall retire payments
        rolecall retire 444455556666 777788889999 --yes
    """
    from rolecall import offboarding
    from rolecall.accounts import resolve_accounts

    raise _run(
        context,
        lambda operation: offboarding.retire(operation, resolve_accounts(operation.stage, accounts)),
        as_json=as_json,
        yes=yes,
        no_wait=no_wait,
        timeout=timeout,
    )


def freeze(context: typer.Context, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Deny every new session until unfrozen.

    Shows which principals are denied, and asks for confirmation; then waits
    until a read of IAM confirms that every shard denies them. Takes effect
    within IAM's propagation, usually seconds; existing sessions continue until
    they expire. No account is revoked, and enrolling continues.

    Exit status: 0 if the freeze is in force, or stored with nothing attached
    yet; 1 if it is stored and not in force.

    Examples:
        rolecall freeze
        rolecall freeze --yes
    """
    from rolecall import offboarding

    raise _run(context, offboarding.freeze, as_json=as_json, yes=yes)


def unfreeze(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Lift a freeze.

    Waits until that is in force. Takes effect within IAM's propagation, usually
    seconds. Includes accounts that were enrolled during the freeze.

    Exit status: 0 if it is in force, 1 if it is stored and not in force.

    Examples:
        rolecall unfreeze
    """
    from rolecall import offboarding

    raise _run(context, offboarding.unfreeze, as_json=as_json)


def uninstall(
    context: typer.Context,
    *,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
    as_json: AsJson = False,
) -> None:
    """Delete all member roles and the source policy.

    Shows what is left, and asks for confirmation. Then stops enrolling, and
    continues until nothing is left or nothing more can be deleted; what is left
    is listed with the reason. Run it again to continue; run a backfill before
    its end to cancel. Afterwards, delete the stack with rolecall undeploy.

    Exit status: 0, 1 if something is left, 2 if accounts are not finished.

    Examples:
        rolecall uninstall
        rolecall --stage dev uninstall --yes
    """
    from rolecall import offboarding

    raise _run(context, offboarding.uninstall, as_json=as_json, yes=yes, no_wait=no_wait, timeout=timeout)


def _run(
    context: typer.Context,
    command: "Callable[[Operation], ExitStatus]",
    *,
    as_json: bool,
    yes: bool = False,
    no_wait: bool = False,
    timeout: float = ONE_HOUR,
) -> typer.Exit:
    """Run an operation on the stage, print it as JSON on request, and return the exit of the command."""
    from rolecall.console import print_json
    from rolecall.operation import start_operation

    stage = context.obj.open()
    operation = start_operation(stage, yes=yes, wait=not no_wait, timeout=timeout, as_json=as_json)
    status = command(operation)
    if as_json:
        print_json(operation.as_json(status))
    return typer.Exit(status)
