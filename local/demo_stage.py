"""The stage that the demo deploys: invocations, waits and reads."""

import json
from typing import Any

from chalicelib.session_policies import member_role_write
from chalicelib.settings import Settings
from local.organization import Credentials, LocalOrganization
from local.waiting import wait_until

STAGE = "demo"
_EVENTS = "demo-events"


class DemoStage:
    """One stage of the app in the management account."""

    def __init__(self, organization: LocalOrganization) -> None:
        self._organization = organization

    def invoke(self, function: str, **request: Any) -> dict[str, Any]:
        """Invoke a function, and return its response."""
        response: dict[str, Any] = self._organization.invoke(f"rolecall-{STAGE}-{function}", request)
        return response

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Return the ledger's rows by account id."""
        return self._organization.ledger(STAGE)

    def wait_for_outcome(self, account_id: str, outcome: str) -> dict[str, Any]:
        """Wait until the ledger has the outcome and the source policy follows it, and return the row."""

        def matching() -> dict[str, Any] | None:
            row = self.ledger().get(account_id)
            return row if row is not None and row["outcome"] == outcome and is_published(row) else None

        return wait_until(matching, f"account {account_id} is {outcome}")

    def log_line(self, account_id: str) -> dict[str, Any]:
        """Wait for the line that enroll logs about an account, and return it."""

        def matching() -> dict[str, Any] | None:
            for line in self._organization.logs(f"rolecall-{STAGE}-enroll"):
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("message") == "account" and entry.get("account_id") == account_id:
                    return dict(entry)
            return None

        return wait_until(matching, f"enroll logs account {account_id}")

    def copy_events(self) -> None:
        """Copy every event of Organizations to a queue, where the demo reads them as delivered."""
        sqs, events = self._organization.client("sqs"), self._organization.client("events")
        url = sqs.create_queue(QueueName=_EVENTS)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=_EVENTS, EventPattern=json.dumps({"source": ["aws.organizations"]}))
        events.put_targets(Rule=_EVENTS, Targets=[{"Id": _EVENTS, "Arn": arn}])

    def receive_event(self, account_id: str) -> dict[str, Any]:
        """Wait for a copied event that contains an account id, and return it."""
        sqs = self._organization.client("sqs")
        url = sqs.get_queue_url(QueueName=_EVENTS)["QueueUrl"]

        def matching() -> dict[str, Any] | None:
            for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
                if account_id in message["Body"]:
                    return dict(json.loads(message["Body"]))
            return None

        return wait_until(matching, f"an event about account {account_id} arrives")

    def source_policy(self) -> tuple[str, dict[str, Any]]:
        """Return the default version's id and the first statement of the source policy."""
        iam = self._organization.client("iam")
        arn = f"arn:aws:iam::{self._organization.management_account_id}:policy/CrossAccountReadOnlyAccess"
        version: str = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return version, dict(document["Statement"][0])

    def access_role_session(self, account_id: str) -> Credentials:
        """Assume the access role with the session policy that enroll uses."""
        functions = self._organization.client("lambda")
        configuration = functions.get_function_configuration(FunctionName=f"rolecall-{STAGE}-enroll")
        policy = member_role_write(Settings.from_env(configuration["Environment"]["Variables"]), account_id)
        access_role = f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole"
        return self._organization.assume(access_role, Policy=policy.text)


def is_published(row: dict[str, Any]) -> bool:
    """Whether the source policy grants an account access exactly if it is enrolled."""
    enrolled: bool = row["outcome"] == "enrolled"
    return ("in_force_since" in row) == enrolled
