"""The command `rolecall prove`: read the stage as the operator, and test every claim as a source principal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress

from chalicelib.arns import AccountId
from rolecall.console import is_terminal, output_console, print_json
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.prove.account_claims import select_accounts
from rolecall.prove.evidence import Evidence, is_one_of
from rolecall.prove.evidence_page import evidence_json, print_evidence
from rolecall.prove.prover import Prover
from rolecall.prove.source_session import SourceSession
from rolecall.source_policy_state import freeze_state
from rolecall.stage import Stage


def prove(
    stage: Stage, session: SourceSession, *, accounts: Sequence[AccountId], sample: int | None, as_json: bool
) -> ExitStatus:
    """Collect the evidence, print it, and return the exit status."""
    evidence = collect_evidence(stage, session, accounts=accounts, sample=sample)
    if as_json:
        print_json(evidence_json(evidence))
    else:
        print_evidence(evidence, output_console())
    return evidence.exit_status


def collect_evidence(
    stage: Stage, session: SourceSession, *, accounts: Sequence[AccountId], sample: int | None
) -> Evidence:
    """Test the accounts. Raise CommandError if the session isn't a source principal's."""
    records = stage.records()
    settings = records.installed(stage.settings)
    if not is_one_of(session.arn, settings.source_principals):
        expected = ", ".join(principal.arn for principal in settings.source_principals)
        raise CommandError(
            f"{session.arn} is not a source principal of stage {settings.stage}: set --reader-profile to a profile of {expected}"
            f"{'' if settings.keeps_source_policy else '; only an account whose credentials you have can be tested'}"
        )
    chosen = select_accounts(settings, stage.rows(), stage.accounts(), named=accounts, sample=sample)
    frozen, _ = freeze_state(records, settings)
    started = datetime.now(UTC)
    with _progress(len(chosen)) as progress:
        tests = Prover(settings, session).test(chosen)
        tested = list(progress.track(tests, total=len(chosen), description="testing"))
    return Evidence(
        settings=settings,
        region=stage.region,
        principal_arn=session.arn,
        principal_id=session.user_id,
        started=started,
        ended=datetime.now(UTC),
        frozen=frozen,
        accounts=tested,
    )


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """Yield a progress bar on standard error, which is not displayed if standard error is piped."""
    shown = is_terminal(sys.stderr) and total > 0
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        yield progress
