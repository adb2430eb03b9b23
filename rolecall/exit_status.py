"""The exit statuses of all commands."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command reports to the shell."""

    OK = 0
    PROBLEM = 1  # something fails or needs attention
    UNKNOWN = 2  # the command could not complete or determine what was asked
    INTERRUPTED = 130
