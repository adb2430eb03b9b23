"""The logger and the metrics that every function shares, and the metrics' names."""

from enum import StrEnum

from aws_lambda_powertools import Logger, Metrics

logger = Logger()
metrics = Metrics()


class Metric(StrEnum):
    """What Rolecall counts and measures, all in namespace `Rolecall`."""

    EVENTS_HEARD = "EventsHeard"
    EVENTS_IGNORED = "EventsIgnored"
    ACCOUNTS_ENROLLED = "AccountsEnrolled"
    ACCOUNTS_SKIPPED = "AccountsSkipped"
    ACCOUNTS_FAILED = "AccountsFailed"
    ACCOUNTS_RETIRED = "AccountsRetired"
    MESSAGES_RETRIED = "MessagesRetried"
    ROLES_CREATED = "RolesCreated"
    ROLES_UPDATED = "RolesUpdated"
    ENROLLMENT_SECONDS = "EnrollmentSeconds"
