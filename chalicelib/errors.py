"""What can go wrong, and what becomes of it.

RolecallError
├── SettingsError         the deployment's settings are wrong: nothing is done until they are mended
├── RequestError          what an operator asked for is malformed or refused: nothing is done
├── MessageError          a queue message can't be read: handed back, and to the dead-letter queue in the end
└── AccountError          one account (or its source policy) can't be brought to where it should be
    ├── RetryableError    may pass by itself: the message goes back to the queue with a growing delay
    └── TerminalError     won't pass by itself: recorded as failed, alarmed on, rerun when its cause is mended
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an account is not enrolled: the closed list."""

    # Skipped or retired: the account should not be enrolled.
    EXCLUDED = "excluded"
    PENDING_ACTIVATION = "pending_activation"
    SUSPENDED = "suspended"
    PENDING_CLOSURE = "pending_closure"
    CLOSED = "closed"
    DEPARTED = "departed"
    RETIRED_BY_REQUEST = "retired_by_request"
    UNINSTALLED = "uninstalled"

    # Failed: it should be enrolled, and isn't (or could not be verified).
    NOT_READY = "not_ready"
    NO_ACCESS_ROLE = "no_access_role"
    ACCESS_DENIED = "access_denied"
    SCP_DENIED = "scp_denied"
    RCP_DENIED = "rcp_denied"
    FOREIGN_ROLE = "foreign_role"
    FOREIGN_SOURCE_POLICY = "foreign_source_policy"
    NO_SOURCE_PRINCIPAL = "no_source_principal"
    NO_SUCH_POLICY = "no_such_policy"
    QUOTA = "quota"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    SERVICE_ERROR = "service_error"
    STALE_READ = "stale_read"
    SOURCE_POLICY_PENDING = "source_policy_pending"
    NAMES_CHANGED = "names_changed"
    CONFLICT = "conflict"
    OUT_OF_TIME = "out_of_time"
    UNEXPECTED = "unexpected"


class RolecallError(Exception):
    """Anything that Rolecall itself raises."""


class SettingsError(RolecallError):
    """A setting is missing or malformed; the message names it, what it holds and what it may hold."""


class RequestError(RolecallError):
    """A request is malformed, or asks for what must not be done; the message says which and what to do."""


class MessageError(RolecallError):
    """A queue message is not one of ours, or is broken."""


class AccountError(RolecallError):
    """One account can't be brought to where it should be."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the reason, one word of the closed list, beside the message for a person."""
        super().__init__(message)
        self.reason = reason


class RetryableError(AccountError):
    """Trying again later may succeed with nobody doing anything."""


class TerminalError(AccountError):
    """Trying again is useless until somebody mends the cause that the message names."""
