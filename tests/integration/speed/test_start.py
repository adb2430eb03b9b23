import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]

_SCRIPT = """
import socket, sys
import boto3, botocore.loaders, botocore.session

def refuse(*_, **__):
    raise AssertionError("at import")

socket.socket.connect = refuse
botocore.session.Session.__init__ = refuse
botocore.loaders.JSONFileLoader.load_file = refuse
import app
assert app.application.cache_info().currsize == 0
"""


def test_importing_the_app_makes_no_call_and_no_client_and_loads_no_model() -> None:
    # With an empty environment: none of the settings, no region and no credentials.
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=_ROOT, env={}, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")
