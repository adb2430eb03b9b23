"""The partitions that are supported, compared with botocore's data."""

from botocore.loaders import create_loader

from rolecall.partitions import EVENT_REGIONS, add_account_arguments
from tests.unit.builders import PARTITIONS


def test_event_regions_are_those_of_the_partitions_global_services() -> None:
    known = create_loader().load_data("partitions")["partitions"]
    regions = {each["id"]: each["outputs"]["implicitGlobalRegion"] for each in known}
    assert {partition: regions[partition] for partition in PARTITIONS} == EVENT_REGIONS


def test_account_is_created_except_in_govcloud() -> None:
    created = {each for each in PARTITIONS if add_account_arguments(each).startswith("organizations create-account ")}
    assert created == set(PARTITIONS) - {"aws-us-gov"}
    assert add_account_arguments("aws-us-gov").startswith("organizations invite-account-to-organization ")
