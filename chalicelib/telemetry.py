"""The logger and the metrics that every function shares, and the metrics' names."""

import warnings
from enum import StrEnum

from aws_lambda_powertools import Logger, Metrics

logger = Logger()
metrics = Metrics()
# An invocation without metrics, such as one with a malformed request, is no problem.
warnings.filterwarnings("ignore", "No application metrics to publish", UserWarning)


class Metric(StrEnum):
    """The metrics, all in namespace `Rolecall`."""

    EVENTS_RECEIVED = "EventsReceived"
    EVENTS_IGNORED = "EventsIgnored"
    ACCOUNTS_ENROLLED = "AccountsEnrolled"
    ACCOUNTS_SKIPPED = "AccountsSkipped"
    ACCOUNTS_FAILED = "AccountsFailed"
    ACCOUNTS_RETIRED = "AccountsRetired"
    MESSAGES_RETRIED = "MessagesRetried"
    ROLES_CREATED = "RolesCreated"
    ROLES_UPDATED = "RolesUpdated"
    ROLES_DELETED = "RolesDeleted"
    PUBLISH_RUNS = "PublishRuns"
    PUBLISH_SECONDS = "PublishSeconds"
    PUBLISHING_BLOCKED = "PublishingBlocked"
    POLICY_VERSIONS_WRITTEN = "PolicyVersionsWritten"
    ACCESS_GRANTED = "AccessGranted"
    ACCESS_SECONDS = "AccessSeconds"
    ACCESS_PENDING_SECONDS = "AccessPendingSeconds"
    ELIGIBLE = "Eligible"
    ENROLLED = "Enrolled"
    PENDING = "Pending"
    SKIPPED = "Skipped"
    FAILING = "Failing"
    NEEDING_ATTENTION = "AccountsNeedingAttention"
    COVERAGE = "CoveragePercent"
    OLDEST_FAILURE = "OldestFailureSeconds"
    SOURCE_POLICY_FILL = "SourcePolicyFillPercent"
    EVENTS_MISSED = "EventsMissed"
    RETIREMENTS_DEFERRED = "RetirementsDeferred"
    FROZEN = "Frozen"
    RESYNCS = "Resyncs"
    ACCOUNTS_RERUN = "AccountsRerun"
    ACCOUNTS_SENT = "AccountsSent"
    SKIPPED_FOR = "SkippedForReason"
    FAILING_FOR = "FailingForReason"
