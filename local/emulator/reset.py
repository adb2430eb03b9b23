"""A reset of the whole server, much faster than a restart."""

from emulator import functions, iam, move_tasks, organizations
from emulator.switches import SWITCHES, Switches
from ministack import app


def reset() -> None:
    """Delete everything in all accounts, and create a new organization."""
    functions.kill_all()
    app._reset_all_state()
    vars(SWITCHES).update(vars(Switches()))
    move_tasks.reset()
    iam.add_managed_policies()
    organizations.create_organization()
