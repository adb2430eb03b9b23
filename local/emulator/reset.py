"""Resets of the whole server, or of IAM alone, much faster than a restart."""

from emulator import functions, iam, move_tasks, organizations, stack_sets
from emulator.switches import SWITCHES, Switches
from ministack import app
from ministack.services import iam as ministack_iam
from ministack.services import sts as ministack_sts


def reset() -> None:
    """Delete everything in all accounts, and create a new organization."""
    functions.kill_all()
    app._reset_all_state()
    vars(SWITCHES).update(vars(Switches()))
    move_tasks.reset()
    stack_sets.reset()
    iam.add_managed_policies()
    organizations.create_organization()


def reset_iam() -> None:
    """Delete all roles, users, policies and sessions in all accounts."""
    ministack_iam.reset()
    ministack_sts.reset()
    iam.add_managed_policies()
