"""The server stops with its parent, deletes its files, and starts anew with a reset."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.organization import LocalOrganization
from local.waiting import wait_until
from tests.end_to_end.expected_errors import rejected

PARENT = """
from local.organization import LocalOrganization

with LocalOrganization() as organization:
    print(organization.endpoint_url, flush=True)
    input()
"""


def is_serving(endpoint_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint_url}/_ministack/health", timeout=2):  # noqa: S310
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, which no other server uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_server_listens_on_loopback_only_and_leaves_no_files(private_tmp: Path) -> None:
    with LocalOrganization() as organization:
        endpoint = urlsplit(organization.endpoint_url)
        assert endpoint.hostname == "127.0.0.1"
        assert is_serving(organization.endpoint_url)
        assert len(list(private_tmp.glob("rolecall-local-*"))) == 1
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", endpoint.port))
    assert not is_serving(organization.endpoint_url)
    assert list(private_tmp.iterdir()) == []


def test_server_stops_with_a_killed_parent(private_tmp: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TMPDIR": str(private_tmp)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        endpoint_url = parent.stdout.readline().strip()
        assert is_serving(endpoint_url)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_serving(endpoint_url), "the server has stopped", seconds=10)
    wait_until(lambda: not list(private_tmp.iterdir()), "its directory is deleted", seconds=10)


def test_reset_begins_a_new_organization(organization: LocalOrganization) -> None:
    account_id, organization_id = organization.create_account("old"), organization.organization_id
    organization.client("sqs").create_queue(QueueName="old")
    organization.drop_events(dropped=True)

    organization.reset()

    assert organization.organization_id != organization_id
    with rejected("AccountNotFoundException"):
        organization.client("organizations").describe_account(AccountId=account_id)
    assert not organization.client("sqs").list_queues().get("QueueUrls")
    assert organization.create_account("new")
