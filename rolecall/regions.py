"""The regions in which Organizations delivers events."""

EVENT_REGIONS = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-northwest-1"}
"""The region of each partition."""
