"""Changes of the organization around the deployed stages."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from local.organization import Document, LocalOrganization

DAY_SECONDS = 86_400.0


def create_without_events(organization: LocalOrganization, count: int = 1) -> list[str]:
    """Create accounts whose events are lost and that joined a day ago, and return their ids."""
    with events_dropped(organization):
        created = organization.create_accounts(count)
    for account_id in created:
        organization.age_account(account_id, DAY_SECONDS)
    return created


@contextmanager
def events_dropped(organization: LocalOrganization) -> Iterator[None]:
    """Lose all events of Organizations in a block."""
    organization.drop_events(True)
    try:
        yield
    finally:
        organization.drop_events(False)


@contextmanager
def scp_attached(organization: LocalOrganization, policy: Document, targets: Iterable[str]) -> Iterator[None]:
    """Attach a service control policy to accounts or to the root in a block."""
    organizations = organization.client("organizations")
    created = organizations.create_policy(
        Name="attached", Description="test", Type="SERVICE_CONTROL_POLICY", Content=json.dumps(policy)
    )
    policy_id, attached = created["Policy"]["PolicySummary"]["Id"], list(targets)
    for target in attached:
        organizations.attach_policy(PolicyId=policy_id, TargetId=target)
    try:
        yield
    finally:
        for target in attached:
            organizations.detach_policy(PolicyId=policy_id, TargetId=target)
        organizations.delete_policy(PolicyId=policy_id)


def deny_policy(*actions: str) -> Document:
    """Return a policy that denies actions on all resources."""
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": list(actions), "Resource": "*"}]}


def root_id(organization: LocalOrganization) -> str:
    """Return the id of the organization's root."""
    return str(organization.client("organizations").list_roots()["Roots"][0]["Id"])


def create_unit(organization: LocalOrganization, name: str, parent: str | None = None) -> str:
    """Create an organizational unit, by default in the root, and return its id."""
    created = organization.client("organizations").create_organizational_unit(
        ParentId=parent or root_id(organization), Name=name
    )
    return str(created["OrganizationalUnit"]["Id"])


def move_account(organization: LocalOrganization, account_id: str, destination: str) -> None:
    """Move an account to an organizational unit or the root."""
    organizations = organization.client("organizations")
    source = organizations.list_parents(ChildId=account_id)["Parents"][0]["Id"]
    organizations.move_account(AccountId=account_id, SourceParentId=source, DestinationParentId=destination)


def tag_account(organization: LocalOrganization, account_id: str, **tags: str) -> None:
    """Set tags of an account."""
    organization.client("organizations").tag_resource(
        ResourceId=account_id, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )


def attached_policies(organization: LocalOrganization, principal: str = "Reader") -> set[str]:
    """Return the names of the policies attached to a role of the management account."""
    attached = organization.client("iam").list_attached_role_policies(RoleName=principal)["AttachedPolicies"]
    return {policy["PolicyName"] for policy in attached}
