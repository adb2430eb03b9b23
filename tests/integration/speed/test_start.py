import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]

_SCRIPT = """
import socket, sys
import boto3, botocore.loaders, botocore.session

def fail(*_, **__):
    raise AssertionError("at import")

socket.socket.connect = fail
botocore.session.Session.__init__ = fail
botocore.loaders.JSONFileLoader.load_file = fail
import app
assert app.application.cache_info().currsize == 0
"""


def test_importing_the_app_creates_no_client() -> None:
    """Neither makes a call, nor loads one of botocore's models, nor needs a setting, a region or credentials."""
    process = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=_ROOT, env={}, capture_output=True, text=True, check=False
    )

    assert (process.returncode, process.stderr) == (0, "")
