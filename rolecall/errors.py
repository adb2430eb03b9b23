"""What ends a command: one clear sentence on standard error, and an exit status.

CommandError
├── DeniedError           these credentials may not make the call
├── NotDeployedError      there is no such stage where one looked
├── WrongSettingsError    the stage is deployed with a setting that is wrong
└── FunctionError         a function of the stage refused the request, or failed
"""


class CommandError(Exception):
    """Ends a command with exit status 2: it could not do, or tell, what was asked; the message says what, where and what to do."""


class DeniedError(CommandError):
    """AWS denied a call of these credentials."""


class NotDeployedError(CommandError):
    """The stage is not deployed in this account and region."""


class WrongSettingsError(CommandError):
    """The stage's functions run with a setting that can't be right."""


class FunctionError(CommandError):
    """A function of the stage refused what was asked, or failed."""
