"""Rolecall and its baselines: the bare calls, botocove, and a script with a session for each account."""

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
from benchmarks.reference_calls import ACCESS_ROLE, ReferenceCalls
from benchmarks.stub.role_states import RoleState, account_id
from benchmarks.stub.rows import row_mark, row_update
from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.organizations import Organization
from chalicelib.aws.sessions import Sessions, account_client, client_config
from chalicelib.aws.stacks import Stacks
from chalicelib.reconciler import Reconciler
from chalicelib.settings import Settings

Runner: TypeAlias = Callable[[list[str]], None]
"""Makes the calls for a list of accounts, in the role state and with the threads that it was built for."""


def rolecall(role_state: RoleState, threads: int) -> Runner:  # noqa: ARG001 - it reads the state from IAM
    """Reconcile each account as enroll does for a sweep's message, which contains the listed account."""
    settings = Settings.from_env(ENVIRON)
    session = boto3.Session()
    config = client_config(threads)
    reconcile = Reconciler(
        settings,
        Organization(
            settings, session.client("organizations", config=config), lambda: session.client("resourcegroupstaggingapi")
        ),
        Sessions(settings, session.client("sts", config=config)),
        IamRoles(account_client(session, "iam", config)),
        Stacks(dict),
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


def bare(role_state: RoleState, threads: int, *, ledger: bool = False) -> Runner:
    """Baseline (a), the floor: the same calls by one botocore client for each service, and nothing else."""
    calls = ReferenceCalls.of(role_state)
    config = Config(max_pool_connections=threads, retries={"mode": "standard", "total_max_attempts": 6})
    core: Any = botocore.session.get_session()
    sts = core.create_client("sts", config=config)
    credentials = calls.assume(sts, account_id(role_state, 0))
    # One account's credentials for all accounts: a botocore client has one set of credentials.
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


def bare_marks(threads: int) -> Runner:
    """Set `in_force_since` of each row as publish does, by one botocore client, and nothing else."""
    core: Any = botocore.session.get_session()
    config = Config(max_pool_connections=threads, retries={"mode": "standard", "total_max_attempts": 6})
    dynamodb = core.create_client("dynamodb", config=config)

    def one(account_id: str) -> None:
        dynamodb.update_item(**row_mark(account_id))

    return _in_threads(one, threads)


def botocove(role_state: RoleState, threads: int) -> Runner:
    """Baseline (b): the same calls by botocove's session for each account."""
    calls = ReferenceCalls.of(role_state)

    def run(account_ids: list[str]) -> None:
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

    return run


def simple_script(role_state: RoleState, threads: int) -> Runner:
    """Baseline (c): a session and a client for each account."""
    calls = ReferenceCalls.of(role_state)
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


def _in_threads(one: Callable[[str], None], threads: int) -> Runner:
    def run(account_ids: Iterable[str]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, account_ids))

    return run
