"""announce_outcome: from the changes of the ledger in DynamoDB to the entries of PutEvents."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from moto.backends import get_backend

from chalicelib.errors import RolecallError
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, REGION, Organization
from tests.integration.stage import Invoke, Stage

# As telemetry does in a function.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

Records = list[dict[str, Any]]


class Announced:
    """Reads the ledger's stream as Lambda does, invokes the function, and keeps the events that the bus accepts."""

    def __init__(self, organization: Organization, boundary: Boundary, invoke: Invoke) -> None:
        self._operator, self._invoke = organization.operator, invoke
        self.events: list[dict[str, Any]] = []
        self.rejected: set[str] = set()  # accounts
        self.stage, self._position = Stage(organization), 0
        boundary.respond("eventbridge:PutEvents", self._put)
        self._operator.dynamodb.meta.client.update_table(
            TableName=self.stage.environ["LEDGER_TABLE"],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    def _put(self, params: Mapping[str, Any]) -> dict[str, Any]:
        results = []
        for entry in params["Entries"]:
            detail = json.loads(entry["Detail"])
            is_rejected = detail["account_id"] in self.rejected
            results.append({"ErrorCode": "InternalFailure"} if is_rejected else {"EventId": "e"})
            self.events += [] if is_rejected else [{**entry, "Detail": detail}]
        return {"FailedEntryCount": sum("ErrorCode" in each for each in results), "Entries": results}

    def records(self) -> Records:
        """Return the stream's records as Lambda delivers them; moto has no API for streams beside its tables'."""
        table: Any = get_backend("dynamodb")[MANAGEMENT][REGION].tables[self.stage.environ["LEDGER_TABLE"]]
        found: Records = copy.deepcopy([each.to_json() for each in table.stream_shard.items])
        for change in (record["dynamodb"] for record in found):
            change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
            # moto inserts the key, and then updates the item.
            change.update({name: {} for name in ("OldImage", "NewImage") if len(change.get(name, ())) == 1})
        return found

    def announce(self, records: Records | None = None) -> Any:
        """Invoke the function with some records, or with those that it was not invoked with yet."""
        if records is None:
            records, self._position = self.records()[self._position :], len(self.records())
        return self._invoke(self.stage, "announce_outcome", {"Records": records})

    def of(self, account_id: str) -> list[dict[str, Any]]:
        """Return the events of an account."""
        return [each for each in self.events if each["Detail"]["account_id"] == account_id]


@pytest.fixture
def announced(organization: Organization, boundary: Boundary, invoke: Invoke) -> Announced:
    return Announced(organization, boundary, invoke)


def test_new_account_is_announced_once_its_access_is_in_force(announced: Announced, organization: Organization) -> None:
    member = organization.member("Payments")
    announced.stage.enqueue(member)
    announced.stage.deliver_accounts()
    announced.announce()
    before = announced.of(member)

    announced.stage.publish()
    response = announced.announce()

    (event,) = announced.of(member)
    detail = event["Detail"]
    row = announced.stage.row(member)
    assert before == []
    assert response == {"batchItemFailures": []}
    assert (event["EventBusName"], event["Source"], event["DetailType"]) == (
        "default",
        "rolecall.test",
        "Account Enrolled",
    )
    assert detail == {
        "schema_version": 1,
        "id": detail["id"],
        "sequence_number": detail["sequence_number"],
        "account_id": member,
        "name": "Payments",
        "ou_path": None,
        "outcome": "enrolled",
        "reason": None,
        "error": None,
        "will_be_retried": False,
        "role_arn": row["role_arn"],
        "previous_outcome": None,
        "previous_reason": None,
        "changed_at": detail["changed_at"],
        "enrolled_at": row["enrolled_at"],
        "in_force_since": row["in_force_since"],
        "joined_at": row["joined_at"],
    }


def test_path_that_organizations_returns_is_recorded(announced: Announced, organization: Organization) -> None:
    """It costs no call: DescribeAccount and ListAccounts return it, whatever the settings are."""
    member, path = organization.member(), f"{organization.id}/r-ab12/ou-ab12-11111111/ou-ab12-22222222"
    organization.boundary.edit_response(
        "organizations:DescribeAccount", lambda response: response["Account"].update(Paths=[f"{path}/{member}/"])
    )
    announced.stage.enroll(member)

    announced.announce()

    (event,) = announced.of(member)
    assert event["Detail"]["ou_path"] == ["ou-ab12-11111111", "ou-ab12-22222222"]
    assert not [call for call in organization.boundary.calls if call.operation == "organizations:ListParents"]


def test_later_event_of_an_account_waits_for_an_earlier_one(announced: Announced, organization: Organization) -> None:
    """The first change that the bus rejects is reported, and delivered again with all after it."""
    first, second = organization.member("First"), organization.member("Second")
    announced.stage.enroll(first, second)
    announced.stage.run_and_drain("retire", accounts=[first, second])
    announced.rejected = {first}
    records = announced.records()

    response = announced.announce()
    was_announced = announced.of(first)
    announced.rejected.clear()
    (failure,) = response["batchItemFailures"]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    announced.announce(records[numbers.index(failure["itemIdentifier"]) :])

    assert was_announced == []
    assert [each["DetailType"] for each in announced.of(first)] == ["Account Enrolled", "Account Retired"]
    again = {json.dumps(each, default=str): each["DetailType"] for each in announced.of(second)}
    assert list(again.values()) == ["Account Enrolled", "Account Retired"]


def test_bus_that_cannot_be_reached_is_an_error_of_the_function(
    announced: Announced, organization: Organization
) -> None:
    announced.stage.enroll(organization.member())
    organization.boundary.fail("eventbridge:PutEvents", "ThrottlingException")

    with pytest.raises(RolecallError, match="putting events on bus default: ThrottlingException"):
        announced.announce()
