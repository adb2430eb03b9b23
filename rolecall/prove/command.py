"""What `rolecall prove` does: the stage is read as the operator, and every proof is made as the reader."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress

from rolecall.console import whole_lines
from rolecall.errors import CommandError
from rolecall.prove.evidence import is_one_of
from rolecall.prove.proving import Proving
from rolecall.prove.reader import Reader
from rolecall.prove.show import Evidence, document, show
from rolecall.prove.subjects import subjects
from rolecall.source_policy import freeze_state
from rolecall.stage import Stage


def prove(stage: Stage, reader: Reader, *, accounts: list[str], sample: int | None, as_json: bool) -> int:
    """Gather the evidence, print it, and tell the exit status."""
    evidence = gather(stage, reader, accounts=accounts, sample=sample)
    if as_json:
        sys.stdout.write(json.dumps(document(evidence), indent=2) + "\n")
    else:
        show(evidence, whole_lines())
    return evidence.exit_status


def gather(stage: Stage, reader: Reader, *, accounts: list[str], sample: int | None) -> Evidence:
    """Try every account that is asked for, as the reader; a CommandError refuses credentials that would prove nothing."""
    settings = stage.settings
    if not is_one_of(reader.arn, settings.source_principals):
        expected = ", ".join(principal.arn for principal in settings.source_principals)
        raise CommandError(
            f"{reader.arn} is no reader of stage {settings.stage}, so its answers would prove nothing: "
            f"name a profile of {expected} by --reader"
        )
    chosen = subjects(settings, stage.rows(), stage.accounts(), named=accounts, sample=sample)
    frozen, _ = freeze_state(stage.records(), settings)
    began = datetime.now(UTC)
    with _progress(len(chosen)) as progress:
        tried = list(progress.track(Proving(settings, reader).tried(chosen), total=len(chosen), description="proving"))
    return Evidence(
        settings=settings,
        region=stage.region,
        reader_arn=reader.arn,
        reader_user_id=reader.user_id,
        began=began,
        ended=datetime.now(UTC),
        frozen=frozen,
        tried=tried,
    )


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """Show how far it is on a terminal, and nothing where standard error is piped."""
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal or total == 0) as progress:
        yield progress
