"""The names of the stages that are deployed in an account and region."""

import re
from collections.abc import Iterator

from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.errors import CommandError, DeniedError

DEFAULT_STAGE = "prod"
"""The stage if none is named and none is deployed."""

_QUEUE = re.compile(r"rolecall-(.+)-accounts")


def stage_names(client: ClientFactory) -> list[str]:
    """Return the names of the deployed stages, by their queues: SQS can be asked for names that begin with a prefix."""
    with translate_errors("finding the deployed stages, which --stage makes unnecessary,"):
        pages = client("sqs").get_paginator("list_queues").paginate(QueueNamePrefix="rolecall-")
        return sorted(_names(url for page in pages for url in page.get("QueueUrls", [])))


def _names(urls: Iterator[str]) -> Iterator[str]:
    for url in urls:
        found = _QUEUE.fullmatch(url.rpartition("/")[2])
        if found:
            yield found[1]


def command_for(client: ClientFactory, stage: str, command: str) -> str:
    """Return a command for a stage; it names the stage, unless it is the default one and no other is deployed."""
    try:
        is_default = stage == DEFAULT_STAGE and set(stage_names(client)) <= {stage}
    except CommandError:
        is_default = False  # Without the permission, the command needs the name, too.
    return f"rolecall {command}" if is_default else f"rolecall --stage {stage} {command}"


def deploy_command(stage: str) -> str:
    """Return the command that deploys a stage for the first time."""
    return f"rolecall deploy {stage} --source-principal ARN"


def only_stage(client: ClientFactory, *, or_default: bool = False) -> str:
    """Return the only deployed stage, or the default one if none is deployed. Raise CommandError for several.

    With `or_default`, return the default one also if the credentials may not find the stages.
    """
    try:
        names = stage_names(client)
    except DeniedError:
        if or_default:
            return DEFAULT_STAGE
        raise
    if len(names) > 1:
        raise CommandError(
            f"{len(names)} stages are deployed here: set --stage or ROLECALL_STAGE to one of {', '.join(names)}"
        )
    return names[0] if names else DEFAULT_STAGE
