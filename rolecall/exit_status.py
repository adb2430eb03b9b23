"""The exit statuses of all commands."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command reports to the shell; docs/requests.md has the same list."""

    OK = 0
    PROBLEM = 1  # something fails or needs attention
    UNKNOWN = 2  # the command could not complete or determine what was asked
    INTERRUPTED = 130  # by Ctrl-C (128 + SIGINT)
    BROKEN_PIPE = 141  # the output's reader is gone, as after head -1 (128 + SIGPIPE)
