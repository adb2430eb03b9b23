"""What ends a command: one clear sentence on standard error, and an exit status."""


class CommandError(Exception):
    """Ends a command with exit status 2: it could not do, or tell, what was asked; the message says what, where and what to do."""
