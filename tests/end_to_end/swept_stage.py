"""A deployed stage and what an operator asks of it, about the whole organization."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

from chalicelib.accounts import format_time
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.source_policy.records import Records
from local.organization import Document, LocalOrganization
from local.waiting import until
from tests.end_to_end.deployed_stage import PATIENCE, Stage, logged_at
from tests.end_to_end.roles_in_iam import Role, role_of

ROLE = "CrossAccountReadOnlyRole"
POLICY = "CrossAccountReadOnlyAccess"
DAY = 86_400.0
_PAUSE = 0.3


@dataclass
class SweptStage(Stage):
    def ask(self, function: str, **request: Any) -> dict[str, Any]:
        """Invoke a function as an operator does, and tell its answer."""
        answer: dict[str, Any] = self.organization.invoke(self.function(function), request)
        return answer

    def sweep(self, function: str, **request: Any) -> dict[str, Any]:
        """Ask for a sweep, and wait until nothing is left on the queues."""
        answer = self.ask(function, **request)
        self.idle()
        return answer

    def fire(self, rule: str, function: str) -> None:
        """Let a schedule be due, and wait until nothing is left on the queues."""
        ran = len(self.runs(function))
        self.organization.fire(f"rolecall-{self.name}-{rule}")
        until(lambda: len(self.runs(function)) > ran, f"{rule} runs in stage {self.name}", PATIENCE)
        self.idle()

    def runs(self, function: str) -> list[str]:
        return [line for line in self.organization.logs(self.function(function)) if line.startswith("REPORT ")]

    def rows(self) -> dict[str, dict[str, Any]]:
        return self.organization.ledger(self.name)

    def with_outcome(self, outcome: str) -> set[str]:
        return {account_id for account_id, row in self.rows().items() if row["outcome"] == outcome}

    def role(self, account_id: str) -> Role | None:
        return role_of(self.organization, account_id, self.settings.member_role_name)

    def records(self) -> Records:
        """Read the source-policy table as the functions do."""
        table = self.environment["SOURCE_POLICY_TABLE"]
        return SourcePolicyTable(self.settings, self.organization.client("dynamodb"), table).load()

    def age_records(self) -> None:
        """Let every shard have been written longer ago than a resync waits for IAM to show it."""
        long_ago = {":at": {"S": format_time(datetime.now(UTC) - timedelta(hours=1))}}
        for record in self.records().shards:
            self.organization.client("dynamodb").update_item(
                TableName=self.environment["SOURCE_POLICY_TABLE"],
                Key={"policy_name": {"S": record.name}},
                UpdateExpression="SET written_at = :at",
                ExpressionAttributeValues=long_ago,
            )

    def all_passes(self) -> list[dict[str, Any]]:
        """Read the canonical lines of every account, in their order."""
        return sorted((line for line in self.log() if line.get("message") == "account"), key=logged_at)

    def alarm(self, name: str) -> str:
        return self.organization.alarm_states()[f"rolecall-{self.name}-{name}"]

    def gauge(self, name: str, function: str = "resync") -> float:
        """Return what the latest run of a function measured; CloudWatch would add up those of one second."""
        measured = [line for line in self.log(function) if name in line and "_aws" in line]
        (value,) = max(measured, key=lambda line: int(line["_aws"]["Timestamp"]))[name]
        return float(value)


@contextmanager
def hurried(stage: Stage) -> Iterator[None]:
    """Skip the delays of retried messages while something else waits for them."""
    finished = Event()

    def hurry() -> None:
        while not finished.wait(_PAUSE):
            stage.hurry()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hurry)
        try:
            yield
        finally:
            finished.set()
        running.result()


def unheard_of(organization: LocalOrganization, count: int = 1) -> list[str]:
    """Create accounts that joined long ago and no event tells of."""
    with events_dropped(organization):
        created = organization.create_accounts(count)
    for account_id in created:
        organization.age_account(account_id, DAY)
    return created


@contextmanager
def events_dropped(organization: LocalOrganization) -> Iterator[None]:
    organization.drop_events(True)
    try:
        yield
    finally:
        organization.drop_events(False)


@contextmanager
def controlled(organization: LocalOrganization, policy: Document, targets: Iterable[str]) -> Iterator[None]:
    """Have a service control policy bind accounts, or all of a root's."""
    organizations = organization.client("organizations")
    created = organizations.create_policy(
        Name="controlling", Description="a test's", Type="SERVICE_CONTROL_POLICY", Content=json.dumps(policy)
    )
    policy_id = created["Policy"]["PolicySummary"]["Id"]
    bound = list(targets)
    for target in bound:
        organizations.attach_policy(PolicyId=policy_id, TargetId=target)
    try:
        yield
    finally:
        for target in bound:
            organizations.detach_policy(PolicyId=policy_id, TargetId=target)
        organizations.delete_policy(PolicyId=policy_id)


def denying(*actions: str) -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": list(actions), "Resource": "*"}]}


def root(organization: LocalOrganization) -> str:
    return str(organization.client("organizations").list_roots()["Roots"][0]["Id"])


def unit(organization: LocalOrganization, name: str, parent: str | None = None) -> str:
    """Create an organizational unit, and tell its id."""
    created = organization.client("organizations").create_organizational_unit(
        ParentId=parent or root(organization), Name=name
    )
    return str(created["OrganizationalUnit"]["Id"])


def move(organization: LocalOrganization, account_id: str, to: str) -> None:
    organizations = organization.client("organizations")
    source = organizations.list_parents(ChildId=account_id)["Parents"][0]["Id"]
    organizations.move_account(AccountId=account_id, SourceParentId=source, DestinationParentId=to)


def attached_to(organization: LocalOrganization, principal: str = "Reader") -> set[str]:
    """Tell the names of the policies attached to a role of the management account."""
    attached = organization.client("iam").list_attached_role_policies(RoleName=principal)["AttachedPolicies"]
    return {policy["PolicyName"] for policy in attached}
