"""The errors that Rolecall raises, and their consequences.

RolecallError
├── SettingsError         a setting is wrong: the functions do nothing until it is corrected
├── RequestError          an operator's request is malformed or not allowed: nothing is done, and the response is the error
├── MessageError          a queue message can't be parsed: it returns to the queue, and moves to the dead-letter queue in the end
└── AccountError          an account, or the source policy, can't be brought to its desired state
    ├── RetryableError    a retry may succeed: recorded as failed, and the message returns to the queue with a growing delay
    └── TerminalError     a retry can't succeed: recorded as failed, alarmed on, rerun once the cause is fixed
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an account is not enrolled: the closed list."""

    # Skipped or retired: the account should not be enrolled.
    EXCLUDED = "excluded"
    EXCLUDED_BY_TAG = "excluded_by_tag"
    PENDING_ACTIVATION = "pending_activation"
    SUSPENDED = "suspended"
    PENDING_CLOSURE = "pending_closure"
    CLOSED = "closed"
    DEPARTED = "departed"
    RETIRED_BY_REQUEST = "retired_by_request"
    UNINSTALLED = "uninstalled"

    # Failed: the account should be enrolled and isn't, or could not be verified.
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
    INSTANCE_PROFILE = "instance_profile"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    SERVICE_ERROR = "service_error"
    STALE_READ = "stale_read"
    SOURCE_POLICY_PENDING = "source_policy_pending"
    NAMES_CHANGED = "names_changed"
    EXTERNAL_ID_REQUIRED = "external_id_required"
    CONFLICT = "conflict"
    OUT_OF_TIME = "out_of_time"
    UNEXPECTED = "unexpected"


class RolecallError(Exception):
    """The base of Rolecall's errors."""


class SettingsError(RolecallError):
    """Settings are missing, malformed or contradictory; each problem names one, its value and the values allowed."""

    def __init__(self, *problems: str) -> None:
        """Take at least one problem."""
        super().__init__("; ".join(problems))
        self.problems = problems


class RequestError(RolecallError):
    """A request is malformed or not allowed; the message is what to change."""


class MessageError(RolecallError):
    """A queue message is malformed."""


class AccountError(RolecallError):
    """An account, or the source policy, can't be brought to its desired state."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Take the reason, one of a closed list, and the message for a person."""
        super().__init__(message)
        self.reason = reason


class RetryableError(AccountError):
    """A retry may succeed without a change by an operator."""


class TerminalError(AccountError):
    """A retry fails again until the cause in the message is fixed."""
