"""All the stubbed services behind one endpoint: which answers a request, what was called, and what is throttled."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from benchmarks.deployment import ENVIRON
from benchmarks.stub import queue, sts
from benchmarks.stub.answer import Answer, Refusal, json_refusal, xml_refusal
from benchmarks.stub.organizations import Organization
from benchmarks.stub.policies import ManagementAccount
from benchmarks.stub.roles import MemberAccounts
from benchmarks.stub.tables import Tables
from chalicelib.settings import Settings

_JSON_SERVICES = {"AWSOrganizationsV20161128": "organizations", "AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}
_THROTTLING = {
    "organizations": "TooManyRequestsException",
    "sqs": "ThrottlingException",
    "dynamodb": "ThrottlingException",
}


@dataclass(slots=True)
class Aws:
    """Answers what is asked of any service; every nth call is throttled where `throttle_every` is n."""

    throttle_every: int = 0
    organization: Organization = field(default_factory=Organization)
    tables: Tables = field(default_factory=Tables)
    management: ManagementAccount = field(default_factory=ManagementAccount)
    members: MemberAccounts = field(default_factory=lambda: MemberAccounts(Settings.from_env(ENVIRON)))
    calls: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    _asked: int = 0

    def answer(self, target: bytes, authorization: bytes, body: bytes) -> Answer:
        """Answer a request by its X-Amz-Target header (empty in the query protocol), its signature and its body."""
        if target:
            prefix, _, operation = target.decode().partition(".")
            service = _JSON_SERVICES[prefix]
            try:
                self._count(f"{service}:{operation}", _THROTTLING[service])
                return self._json(service, operation, json.loads(body))
            except Refusal as refusal:
                return json_refusal(refusal)
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = params["Action"]
        service = "sts" if params["Version"] == "2011-06-15" else "iam"
        try:
            self._count(f"{service}:{action}", "Throttling")
            return self._query(service, action, authorization, params)
        except Refusal as refusal:
            return xml_refusal(refusal)

    def _count(self, call: str, throttling: str) -> None:
        self.calls[call] += 1
        self._asked += 1
        if self.throttle_every and self._asked % self.throttle_every == 0:
            self.throttled[call] += 1
            raise Refusal(throttling)

    def _json(self, service: str, operation: str, content: dict[str, Any]) -> Answer:
        if service == "organizations":
            return self.organization.answer(operation, content)
        if service == "sqs":
            return queue.answer(operation, content)
        return self.tables.answer(operation, content)

    def _query(self, service: str, action: str, authorization: bytes, params: dict[str, str]) -> Answer:
        if service == "sts":
            return sts.answer(action, params)
        member = sts.entered(authorization)
        return self.members.answer(action, member) if member else self.management.answer(action, params)

    def seen(self) -> dict[str, dict[str, int]]:
        """Return what was called, what of it was throttled, and how often each shard was written and each table scanned."""
        return {
            "calls": dict(self.calls),
            "throttled": dict(self.throttled),
            "policies_written": dict(self.management.written),
            "scans": dict(self.tables.scans),
            "pages": dict(self.tables.pages),
        }
