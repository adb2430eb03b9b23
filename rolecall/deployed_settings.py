"""The deployed settings against the template's defaults: the parameters of the stage's stack."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from rolecall.aws_errors import translate_errors
from rolecall.console import print_wrapped
from rolecall.deploy.stack import describe_stack, stack_name
from rolecall.errors import NotDeployedError
from rolecall.stage import Stage
from rolecall.stages import deploy_command

_SECRET = "ExternalId"  # noqa: S105 - the parameter's name
_HIDDEN = "(set)"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployedSetting:
    """A parameter of the stack; the default is None for one that has to be set."""

    name: str
    value: str
    default: str | None
    description: str

    @property
    def is_changed(self) -> bool:
        """Whether the value is not the default."""
        return self.value != self.default

    def as_json(self) -> dict[str, Any]:
        """Return the setting as JSON data."""
        return asdict(self) | {"changed": self.is_changed}


def read_deployed_settings(stage: Stage) -> list[DeployedSetting]:
    """Return the settings in the template's order. Raise NotDeployedError if there is no stack."""
    cloudformation, name = stage.client("cloudformation"), stack_name(stage.name)
    stack = describe_stack(cloudformation, name)
    if stack is None:
        raise NotDeployedError(
            f"stack {name} does not exist in {stage.region}: check --stage, --region and --profile, or deploy it: "
            f"{deploy_command(stage.name)}"
        )
    with translate_errors(f"reading the template of {name}"):
        declared = cloudformation.get_template_summary(StackName=stack.name).get("Parameters", [])
    return [
        DeployedSetting(
            name=each.get("ParameterKey", ""),
            value=_shown(each.get("ParameterKey", ""), stack.parameters.get(each.get("ParameterKey", ""), "")),
            default=each.get("DefaultValue"),
            description=each.get("Description", ""),
        )
        for each in declared
        if each.get("ParameterKey") != "Stage"
    ]


def print_settings(settings: Sequence[DeployedSetting], console: Console) -> None:
    """Print each setting with its value, wrapped at words, and with the default if it was changed."""
    width = max((len(each.name) for each in settings), default=0)
    for each in settings:
        mark = "*" if each.is_changed else " "
        prefix = Text.assemble((mark, "yellow"), " ", (f"{each.name:{width}}", "bold"), "  ")
        default = f" (default: {each.default or 'none'})" if each.is_changed and each.default is not None else ""
        print_wrapped(console, f"{each.value}{default}".replace(",", ", "), prefix)


def _shown(name: str, value: str) -> str:
    return _HIDDEN if name == _SECRET and value else value
