"""The command line in the tests' process, on a stage in moto; its Lambda is a server that runs the stage's functions."""

import io
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rolecall import __version__
from rolecall.__main__ import run
from rolecall.cli import app
from tests.integration.organization import REGION, SOURCE_PRINCIPAL
from tests.integration.stage import Stage

COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] # the app is a group
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAOPERATORXXXXXXXX",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "ROLECALL_STAGE": "test",
}
OFFLINE = {"cost", "explain", "package"}  # commands that call nothing


def arguments_of(command: str, account_id: str, directory: Path) -> list[str]:
    """Return a command with a value for each of its arguments and required options, without confirmation and waiting."""
    values = {
        "ACCOUNT": account_id,
        "STAGE": "test",
        "REASON": "quota",
        "TOOL": "aws-config",
        "FILE": str(directory / "file"),
        "--accounts": "10",
        "--out": str(directory),
        "--reader-role": SOURCE_PRINCIPAL,
    }
    arguments = [command]
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "argument":
            arguments.append(values[parameter.metavar])
        for option in parameter.opts:
            if option in {"--no-wait", "--yes"}:
                arguments.append(option)
            elif option in values:
                arguments += [option, values[option]]
    return arguments


class Terminal(io.TextIOWrapper):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Ran:
    """The exit status of a command, and what it wrote."""

    status: int
    output: str
    errors: str

    @property
    def is_one_sentence(self) -> bool:
        return self.errors.startswith("rolecall: ") and self.errors.count("\n") == 1


@dataclass
class CommandLine:
    """Runs commands with streams of their own, and an environment that is `ENVIRONMENT` at first."""

    patch: pytest.MonkeyPatch
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))

    def __call__(self, *arguments: str, stdout: io.TextIOWrapper | None, stdin: Any = None) -> Ran:
        errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with self.patch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            for name, stream in (("stdout", stdout), ("stderr", errors), ("stdin", stdin)):
                patch.setattr(sys, name, stream)
            status = run(arguments)
        written = b""
        if stdout is not None and isinstance(stdout.buffer, io.BytesIO):
            written = stdout.buffer.getvalue()
        return Ran(status, written.decode(stdout.encoding if stdout else "utf-8"), errors.buffer.getvalue().decode())


def pipe(encoding: str = "utf-8") -> io.TextIOWrapper:
    """Return standard output that a program reads, in some encoding."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@contextmanager
def web_server(respond: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server, and yield its URL."""
    with HTTPServer(("127.0.0.1", 0), respond) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class WebPages(BaseHTTPRequestHandler):
    """Answers every request with a page, as a proxy's sign-in does."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = b"<!DOCTYPE html><html><body>Sign in</body></html>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


class NoStacks(BaseHTTPRequestHandler):
    """A CloudFormation without stacks, since moto's needs packages that nothing else does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        error = "<Code>ValidationError</Code><Message>Stack with id rolecall-test does not exist</Message>"
        body = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def functions_of(stage: Stage, version: str = __version__) -> Iterator[str]:
    """Run a Lambda that has the functions of a stage, deployed with some version, and yield its URL."""

    def name(function: str) -> str:
        return f"rolecall-{stage.environ['STAGE']}-{function}"

    class Functions(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(f"/{name('enroll')}/configuration"):
                configuration = {"Description": f"Rolecall {version}", "LastModified": "2026-03-01T10:00:00.000+0000"}
                self._answer(200, configuration | {"Environment": {"Variables": stage.environ}})
            else:
                self._answer(404, {"Message": "not found"})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            _, is_deployed, function = self.path.removesuffix("/invocations").partition(f"/{name('')}")
            if is_deployed:
                self._answer(200, stage.run(function, request))
            else:
                self._answer(404, {"Message": "not found"})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("x-amzn-ErrorType", "ResourceNotFoundException")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with web_server(Functions) as url:
        yield url
