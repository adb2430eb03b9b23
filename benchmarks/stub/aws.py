"""All stubbed services behind one endpoint, with call counts and throttling."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from benchmarks.deployment import ENVIRON
from benchmarks.stub import queue, sts
from benchmarks.stub.organizations import Organization
from benchmarks.stub.policies import ManagementAccount
from benchmarks.stub.response import Response, ServiceError, json_error, xml_error
from benchmarks.stub.roles import MemberAccounts
from benchmarks.stub.tables import Tables
from chalicelib.settings import Settings

_JSON_SERVICES = {
    "AWSOrganizationsV20161128": "organizations",
    "ResourceGroupsTaggingAPI_20170126": "tag",
    "AmazonSQS": "sqs",
    "DynamoDB_20120810": "dynamodb",
}
_THROTTLING = {
    "organizations": "TooManyRequestsException",
    "tag": "ThrottledException",
    "sqs": "ThrottlingException",
    "dynamodb": "ThrottlingException",
}


@dataclass(slots=True)
class Aws:
    """Dispatches requests to the services; throttles every `throttle_every`th call, none with 0."""

    throttle_every: int = 0
    organization: Organization = field(default_factory=Organization)
    tables: Tables = field(default_factory=Tables)
    management: ManagementAccount = field(default_factory=ManagementAccount)
    members: MemberAccounts = field(default_factory=lambda: MemberAccounts(Settings.from_env(ENVIRON)))
    calls: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    _requests: int = 0

    def handle(self, target: bytes, authorization: bytes, body: bytes) -> Response:
        """Return the response to a request, by its X-Amz-Target header (empty in the query protocol), signature and body."""
        if target:
            prefix, _, operation = target.decode().partition(".")
            service = _JSON_SERVICES[prefix]
            try:
                self._count(f"{service}:{operation}", _THROTTLING[service])
                return self._json(service, operation, json.loads(body))
            except ServiceError as error:
                return json_error(error)
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = params["Action"]
        service = "sts" if params["Version"] == "2011-06-15" else "iam"
        try:
            self._count(f"{service}:{action}", "Throttling")
            return self._query(service, action, authorization, params)
        except ServiceError as error:
            return xml_error(error)

    def _count(self, call: str, throttling: str) -> None:
        self.calls[call] += 1
        self._requests += 1
        if self.throttle_every and self._requests % self.throttle_every == 0:
            self.throttled[call] += 1
            raise ServiceError(throttling)

    def _json(self, service: str, operation: str, content: dict[str, Any]) -> Response:
        if service in {"organizations", "tag"}:
            return self.organization.handle(operation, content)
        if service == "sqs":
            return queue.handle(operation, content)
        return self.tables.handle(operation, content)

    def _query(self, service: str, action: str, authorization: bytes, params: dict[str, str]) -> Response:
        if service == "sts":
            return sts.handle(action, params)
        member = sts.member_account(authorization)
        return self.members.handle(action, member) if member else self.management.handle(action, params)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts of calls, throttled calls, writes of each shard, and scans and pages of each table."""
        return {
            "calls": dict(self.calls),
            "throttled": dict(self.throttled),
            "policies_written": dict(self.management.written),
            "scans": dict(self.tables.scans),
            "pages": dict(self.tables.pages),
        }
