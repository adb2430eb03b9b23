"""The server is its owner's: it stops with it, and leaves nothing behind."""

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
from local.waiting import until

OWNER = """
from local.organization import LocalOrganization

with LocalOrganization() as organization:
    print(organization.endpoint_url, flush=True)
    input()
"""


def serves(endpoint_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint_url}/_ministack/health", timeout=2):  # noqa: S310
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("rolecall-local-*"))


@pytest.fixture
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let only this test's server put its directory here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_serves_the_loopback_address_only_and_stops(private_tmp: Path) -> None:
    with LocalOrganization() as organization:
        endpoint_url = organization.endpoint_url
        assert urlsplit(endpoint_url).hostname == "127.0.0.1"
        assert serves(endpoint_url)
        assert directories() == set(private_tmp.iterdir())
        port = urlsplit(endpoint_url).port
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))
    assert not serves(endpoint_url)
    assert list(private_tmp.iterdir()) == []


def test_it_stops_after_an_error_too(private_tmp: Path) -> None:
    endpoints = []

    def fail(organization: LocalOrganization) -> None:
        endpoints.append(organization.endpoint_url)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LocalOrganization() as organization:
        fail(organization)
    assert [serves(endpoint_url) for endpoint_url in endpoints] == [False]
    assert list(private_tmp.iterdir()) == []


def test_it_stops_when_its_owner_is_killed(private_tmp: Path) -> None:
    root = Path(__file__).parents[3]
    environment = os.environ | {"TMPDIR": str(private_tmp)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout
        endpoint_url = owner.stdout.readline().strip()
        assert serves(endpoint_url)
        owner.send_signal(signal.SIGKILL)
    until(lambda: not serves(endpoint_url), "the server stops", seconds=10)
    until(lambda: not list(private_tmp.iterdir()), "its directory is removed", seconds=10)


def test_two_organizations_stand_side_by_side(organization: LocalOrganization) -> None:
    with LocalOrganization("999988887777") as other:
        assert other.organization_id != organization.organization_id
        account_id = other.create_account("elsewhere")
        assert other.client("sts", account_id).get_caller_identity()["Account"] == account_id
        ids = [
            entry["Id"]
            for page in organization.client("organizations").get_paginator("list_accounts").paginate()
            for entry in page["Accounts"]
        ]
        assert account_id not in ids
