"""The AWS calls of each step of a stage, in which nothing fails; tests compare them with the calls that are made."""

from collections.abc import Mapping

Calls = Mapping[str, int]

ENTER: Calls = {"sts:AssumeRole": 1, "iam:GetRole": 1}
READ: Calls = {"iam:ListAttachedRolePolicies": 1, "iam:ListRolePolicies": 1, "iam:GetRolePolicy": 1}
CREATE: Calls = {"iam:CreateRole": 1, "iam:PutRolePolicy": 1, "iam:AttachRolePolicy": 1}
ROW: Calls = {"dynamodb:UpdateItem": 1}

NEW: Calls = {**ENTER, **CREATE, **ROW}
"""An account that gets its role; publish updates its row once more."""
UNCHANGED: Calls = {**ENTER, **READ, **ROW}
"""An account without drift."""

BATCH: Calls = {"dynamodb:BatchGetItem": 1, "dynamodb:Scan": 1}
"""A batch of enroll, with a BatchGetItem for each hundred accounts."""
REQUEST_TO_PUBLISH: Calls = {"sqs:SendMessage": 1}
"""A batch after which publish has something to do."""

LOOK: Calls = {"iam:GetAccountSummary": 1, "iam:ListAttachedRolePolicies": 1}
RUN: Calls = {"dynamodb:Scan": 2, "dynamodb:UpdateItem": 3, **LOOK}
"""A run of publish: the records and the rows; the lease, the status, and the lease again; one source principal."""
SHARD: Calls = {"dynamodb:UpdateItem": 2, "iam:CreatePolicyVersion": 1}
"""A changed shard, whose record is written before and after it."""

ANNOUNCEMENT: Calls = {"events:PutEvents": 1}
"""A new account, which is announced once its access is in force."""

RESYNC: Calls = {"dynamodb:Scan": 2, "dynamodb:UpdateItem": 1, "sqs:SendMessage": 2}
"""A resync, besides the listing, which reads the rows of a hundred accounts at once, and the messages that it sends."""
RERUN: Calls = {
    "dynamodb:Scan": 2,
    "sqs:SendMessage": 1,
    "sqs:ListMessageMoveTasks": 2,
    "sqs:StartMessageMoveTask": 2,
}
"""A rerun that finds nothing to send. It scans the rows and the records once each, as a resync and a run of publish do."""
