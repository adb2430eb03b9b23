"""What AWS charges in us-east-1, in dollars, without free tiers and discounts."""

from dataclasses import dataclass
from enum import StrEnum

DATE = "2026-11-30"
"""The day as of which the prices are."""

REGION = "us-east-1"


class Service(StrEnum):
    """A service that a stage pays for."""

    CLOUDWATCH = "CloudWatch"
    DYNAMODB = "DynamoDB"
    EVENTBRIDGE = "EventBridge"
    KMS = "KMS"
    LAMBDA = "Lambda"
    SQS = "SQS"


PAGES = {
    Service.CLOUDWATCH: "https://aws.amazon.com/cloudwatch/pricing/",
    Service.DYNAMODB: "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    Service.EVENTBRIDGE: "https://aws.amazon.com/eventbridge/pricing/",
    Service.KMS: "https://aws.amazon.com/kms/pricing/",
    Service.LAMBDA: "https://aws.amazon.com/lambda/pricing/",
    Service.SQS: "https://aws.amazon.com/sqs/pricing/",
}
"""The page with the prices of each service."""


@dataclass(frozen=True, slots=True)
class Price:
    """What so many units of a thing cost."""

    service: Service
    what: str
    unit: str
    dollars: float
    per: int = 1


_MILLION = 1_000_000

ALARM_METRIC = Price(Service.CLOUDWATCH, "alarms", "alarm metrics", 0.10)
CUSTOM_METRIC = Price(Service.CLOUDWATCH, "custom metrics", "metrics", 0.30)
DASHBOARD = Price(Service.CLOUDWATCH, "dashboards", "dashboards", 3.00)
LOGS_INGESTED = Price(Service.CLOUDWATCH, "ingested logs", "GB", 0.50)
LOGS_STORED = Price(Service.CLOUDWATCH, "stored logs", "GB-months", 0.03)
READ = Price(Service.DYNAMODB, "reads, on demand", "read request units", 0.125, _MILLION)
WRITE = Price(Service.DYNAMODB, "writes, on demand", "write request units", 0.625, _MILLION)
STORED = Price(Service.DYNAMODB, "tables", "GB-months", 0.25)
POINT_IN_TIME_RECOVERY = Price(Service.DYNAMODB, "point-in-time recovery", "GB-months", 0.20)
CUSTOM_EVENT = Price(Service.EVENTBRIDGE, "custom events", "events of at most 64 KB", 1.00, _MILLION)
KEY = Price(Service.KMS, "customer managed keys", "keys", 1.00)
DURATION = Price(Service.LAMBDA, "duration, x86", "GB-seconds", 0.0000166667)
INVOCATION = Price(Service.LAMBDA, "invocations", "requests", 0.20, _MILLION)
STANDARD_QUEUE = Price(Service.SQS, "standard queues", "requests", 0.40, _MILLION)
FIFO_QUEUE = Price(Service.SQS, "FIFO queues", "requests", 0.50, _MILLION)

FREE = (
    "EventBridge (events of AWS services, schedules)",
    "DynamoDB Streams (read by Lambda)",
    "IAM",
    "STS",
    "Organizations",
    "CloudFormation and its StackSets",
    "CloudTrail's first trail",
)
"""What a stage uses without a charge."""

ALL = (
    *(INVOCATION, DURATION),
    *(READ, WRITE, STORED, POINT_IN_TIME_RECOVERY),
    *(STANDARD_QUEUE, FIFO_QUEUE),
    CUSTOM_EVENT,
    *(CUSTOM_METRIC, ALARM_METRIC, DASHBOARD, LOGS_INGESTED, LOGS_STORED),
    KEY,
)
