"""The errors that end a command with one sentence on standard error and exit status 2.

CommandError
├── DeniedError             AWS denied a call
├── NotDeployedError        the stage isn't deployed in this account and region
├── InvalidSettingsError    the stage is deployed with invalid settings
└── FunctionError           a function of the stage rejected the request or failed
"""


class CommandError(Exception):
    """The command could not be completed; the message has what failed, where, and what to do."""


class DeniedError(CommandError):
    """AWS denied a call with these credentials."""


class NotDeployedError(CommandError):
    """The stage is not deployed in this account and region."""


class InvalidSettingsError(CommandError):
    """The stage's functions are deployed with invalid settings."""


class FunctionError(CommandError):
    """A function of the stage rejected the request or failed."""
