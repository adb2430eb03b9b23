"""An account in which tests create roles."""

import pytest

from local.organization import LocalOrganization


@pytest.fixture(scope="module")
def account(organization: LocalOrganization) -> str:
    """A member account."""
    return organization.create_account("shared")
