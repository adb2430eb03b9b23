"""Who brings accounts to where they should be: Rolecall, the bare calls, botocove, and what simple scripts do."""

import contextlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeAlias

import boto3
import botocore.session
from botocore.config import Config
from botocove import cove

from benchmarks.deployment import ENVIRON, REGION
from benchmarks.same_calls import ACCESS_ROLE, SameCalls
from benchmarks.stub.kinds import Kind, account_id
from benchmarks.stub.rows import row_mark, row_update
from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.organizations import Organization
from chalicelib.aws.sessions import Sessions, account_client, client_config
from chalicelib.reconciler import Reconciler
from chalicelib.settings import Settings

Contestant: TypeAlias = Callable[[list[str]], None]
"""Works on some accounts, all of the kind that it was made for, in as many threads as it was made for."""


def rolecall(kind: Kind, threads: int) -> Contestant:  # noqa: ARG001 - it finds out
    """Reconcile each account as enroll does, with the account that a sweep has listed."""
    settings = Settings.from_env(ENVIRON)
    session = boto3.Session()
    config = client_config(threads)
    reconcile = Reconciler(
        settings,
        Organization(settings, session.client("organizations", config=config)),
        Sessions(settings, session.client("sts", config=config)),
        IamRoles(account_client(session, "iam", config), settings.member_role_name),
        lambda: datetime.now(UTC),
    )

    def one(account_id: str) -> None:
        account = Account(
            id=AccountId(account_id), name="Account", state="ACTIVE", joined_at=datetime(2024, 1, 1, tzinfo=UTC)
        )
        verdict = reconcile(account.id, None, listed=account)
        if verdict.error is not None:
            raise RuntimeError(verdict.error)

    return _in_threads(one, threads)


def bare(kind: Kind, threads: int, *, ledger: bool = False) -> Contestant:
    """Make the floor, (a): the same calls by one bare botocore client of each service, and nothing else."""
    calls = SameCalls.of(kind)
    config = Config(max_pool_connections=threads, retries={"mode": "standard", "total_max_attempts": 6})
    core: Any = botocore.session.get_session()
    sts = core.create_client("sts", config=config)
    credentials = calls.assume(sts, account_id(kind, 0))
    # With one account's credentials for all, since a client by itself knows no others.
    iam = core.create_client(
        "iam",
        config=config,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    dynamodb = core.create_client("dynamodb", config=config)

    def one(account_id: str) -> None:
        calls.assume(sts, account_id)
        calls.work(iam)
        if ledger:
            dynamodb.update_item(**row_update(account_id))

    return _in_threads(one, threads)


def bare_marks(threads: int) -> Contestant:
    """Mark rows as publish does, by one bare botocore client, and nothing else."""
    core: Any = botocore.session.get_session()
    config = Config(max_pool_connections=threads, retries={"mode": "standard", "total_max_attempts": 6})
    dynamodb = core.create_client("dynamodb", config=config)

    def one(account_id: str) -> None:
        dynamodb.update_item(**row_mark(account_id))

    return _in_threads(one, threads)


def botocove(kind: Kind, threads: int) -> Contestant:
    """Have botocove, (b), doing the same calls by the session that it gives for each account."""
    calls = SameCalls.of(kind)

    def work(account_ids: list[str]) -> None:
        covered = cove(
            lambda session: calls.work(session.client("iam", region_name=REGION)),
            target_ids=account_ids,
            rolename=ACCESS_ROLE,
            policy=calls.session_policy,
            thread_workers=threads,
            raise_exception=True,
        )
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            output = covered()
        if len(output["Results"]) != len(account_ids):
            raise RuntimeError(output)

    return work


def simple_script(kind: Kind, threads: int) -> Contestant:
    """Make a session and a client for each account, (c)."""
    calls = SameCalls.of(kind)
    sts = boto3.client("sts", config=Config(max_pool_connections=threads))

    def one(account_id: str) -> None:
        credentials = calls.assume(sts, account_id)
        session = boto3.Session(
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            region_name=REGION,
        )
        calls.work(session.client("iam"))

    return _in_threads(one, threads)


def _in_threads(one: Callable[[str], None], threads: int) -> Contestant:
    def work(account_ids: Iterable[str]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, account_ids))

    return work
