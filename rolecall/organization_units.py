"""The organization's roots and organizational units."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.arns import AccountId
from rolecall.aws_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """An organizational unit, or a root, whose parent is None."""

    id: str
    name: str
    parent: str | None


def read_units(organizations: "OrganizationsClient") -> dict[str, Unit]:
    """Return all roots and organizational units by their ids."""
    with translate_errors("listing the organizational units"):
        pending = list(_roots(organizations))
        found = {root.id: root for root in pending}
        paginator = organizations.get_paginator("list_organizational_units_for_parent")
        while pending:
            parent = pending.pop()
            for page in paginator.paginate(ParentId=parent.id):
                for listed in page.get("OrganizationalUnits", []):
                    unit = Unit(id=listed["Id"], name=listed["Name"], parent=parent.id)
                    found[unit.id] = unit
                    pending.append(unit)
        return found


def read_path(organizations: "OrganizationsClient", account_id: AccountId) -> list[Unit]:
    """Return the root and the organizational units above a member account, the root first."""
    found: list[Unit] = []
    with translate_errors(f"listing the organizational units above account {account_id}"):
        parent = organizations.list_parents(ChildId=account_id)["Parents"][0]
        while parent["Type"] != "ROOT":
            unit = organizations.describe_organizational_unit(OrganizationalUnitId=parent["Id"])["OrganizationalUnit"]
            grandparent = organizations.list_parents(ChildId=parent["Id"])["Parents"][0]
            found.append(Unit(id=parent["Id"], name=unit["Name"], parent=grandparent["Id"]))
            parent = grandparent
        found += [root for root in _roots(organizations) if root.id == parent["Id"]]
    return found[::-1]


def _roots(organizations: "OrganizationsClient") -> Iterator[Unit]:
    for page in organizations.get_paginator("list_roots").paginate():
        for root in page.get("Roots", []):
            yield Unit(id=root["Id"], name=root["Name"], parent=None)
