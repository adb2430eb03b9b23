"""`rolecall deploy` and `undeploy` in this process, on the local AWS organization."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, TypeAlias

import boto3
from rich.console import Console

from local.organization import REGION, Credentials, LocalOrganization
from rolecall.deploy.deploy import deploy
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.preflight import Given
from rolecall.deploy.undeploy import undeploy
from rolecall.exit_status import ExitStatus
from rolecall.operation import Operation
from rolecall.stage import Stage


def no_pause(_: float) -> None:
    """Poll the local AWS without a pause."""


def _interrupt() -> None:
    raise KeyboardInterrupt


Answer: TypeAlias = bool | Callable[[], bool] | None
"""What the question gets, or what gives it while the question waits; None without a terminal."""


@dataclass
class Deploying:
    """Deploys one stage as root of the management account; `output` is what the last command printed, and
    `details` what its JSON has beside that.

    At the botocore event `interrupted_at`, `interruption` is called: by default, Ctrl-C is pressed.
    """

    organization: LocalOrganization
    app: PackagedApp
    stage: str
    region: str = REGION
    account_id: str | None = None
    credentials: Credentials | None = None
    output: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    interrupted_at: str = ""
    interruption: Callable[[], None] = _interrupt
    _console: StringIO = field(default_factory=StringIO)

    def operation(self, answer: Answer = True, **options: Any) -> Operation:
        """Return an operation whose question gets an answer; without one, there is no terminal."""
        root = {"AccessKeyId": self.account_id or self.organization.management_account_id, "SecretAccessKey": "test"}
        keys = self.credentials or root
        session = boto3.Session(
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys.get("SessionToken"),
            region_name=self.region,
        )
        if self.interrupted_at:
            interruption = self.interruption
            session.events.register(self.interrupted_at, lambda **_: interruption())
        self._console = StringIO()
        operation = Operation(
            stage=Stage(self.stage, session, self.organization.endpoint_url),
            console=Console(file=self._console, width=1000),
            prompt=None if answer is None else lambda _: answer() if callable(answer) else answer,
            **{"pause": no_pause, **options},
        )
        self.details = operation.record.details
        return operation

    @property
    def reader(self) -> str:
        return f"arn:aws:iam::{self.organization.management_account_id}:role/Reader"

    def deploy(
        self,
        *pairs: str,
        dry_run: bool = False,
        answer: Answer = True,
        app: PackagedApp | None = None,
        **given: Any,
    ) -> ExitStatus:
        """Deploy with a source principal and further parameters."""
        chosen = {"SourcePrincipalArns": self.reader} | given.pop("options", {})
        options = {name: value for name, value in chosen.items() if value}
        request = Given(stage=self.stage, options=options, pairs=pairs, **given)
        try:
            return deploy(self.operation(answer), request, app or self.app, dry_run=dry_run)
        finally:
            self.output = self._console.getvalue()

    def undeploy(self, answer: Answer = True) -> ExitStatus:
        try:
            return undeploy(self.operation(answer))
        finally:
            self.output = self._console.getvalue()

    def stack(self) -> dict[str, Any] | None:
        """Return the stack, or None."""
        stacks = self.organization.client("cloudformation").describe_stacks()["Stacks"]
        return next((dict(each) for each in stacks if each["StackName"] == f"rolecall-{self.stage}"), None)

    @property
    def status(self) -> str | None:
        stack = self.stack()
        return str(stack["StackStatus"]) if stack else None

    def variables(self) -> dict[str, str]:
        """Return the environment of a function."""
        functions = self.organization.client("lambda")
        configuration = functions.get_function_configuration(FunctionName=f"rolecall-{self.stage}-enroll")
        return dict(configuration["Environment"]["Variables"])
