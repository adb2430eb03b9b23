"""Clients, and credentials for one account at a time: the narrowed assumption of an access role."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import botocore
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import ClientError

from chalicelib.arns import role_arn
from chalicelib.aws.errors import account_error, denial_reason, error_code, translated
from chalicelib.documents import Document
from chalicelib.errors import Reason, TerminalError
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_sts import STSClient

_SHORTEST_SESSION = 900  # seconds; no pass over one account takes as long

_account_credentials: ContextVar[ReadOnlyCredentials | None] = ContextVar("account_credentials", default=None)


class _CurrentCredentials(Credentials):
    """Signs with the credentials of the account at hand.

    One client then serves all accounts, where a client each would cost more than all the calls that it makes.
    """

    def __init__(self, own: Credentials) -> None:
        super().__init__(access_key="", secret_key="", method="rolecall")
        self._own = own

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return _account_credentials.get() or self._own.get_frozen_credentials()


class _CurrentProvider:
    def __init__(self, own: Credentials) -> None:
        self._credentials = _CurrentCredentials(own)

    def load_credentials(self) -> Credentials:
        return self._credentials


def publish_config(threads: int) -> Config:
    """Return the configuration of the client that writes the source policy: one call ends within 15 seconds.

    Two attempts of 2 + 5 seconds and a second between them: less than the run lease (publisher.LEASE_SECONDS) is still valid when
    a call begins.
    """
    return client_config(threads).merge(
        Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=5)
    )


def invoke_config() -> Config:
    """Return the configuration of the client that waits for a run of publish: one call ends within 12 seconds.

    A longer run goes on; freeze, which is stopped after 60 seconds, reads the records meanwhile.
    """
    return client_config(1).merge(
        Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
    )


def client_config(threads: int) -> Config:
    """Return the configuration of a client that some threads use at once; botocore retries throttled calls."""
    return Config(
        max_pool_connections=threads,
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=5,
        read_timeout=20,
        # Left to itself, botocore puts this together twice a call, at a tenth of the call's whole cost.
        user_agent=f"Botocore/{botocore.__version__} rolecall",
    )


@contextmanager
def models_loading() -> Iterator[None]:
    """Make clients without collecting garbage meanwhile.

    A service's model is tens of thousands of objects that all stay: to look through them again and again would take more than
    half of the time, and later a tenth of each account's.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def account_client(session: "Session", service: str, config: Config) -> Any:  # noqa: ANN401 - one of boto3's generated clients
    """Make a client that acts in whichever account `Sessions` has entered."""
    own = session.get_credentials()
    if own is None:
        message = "no AWS credentials: Rolecall runs as a Lambda function, which has its role's"
        raise RuntimeError(message)
    core = botocore.session.Session()
    core.register_component("credential_provider", _CurrentProvider(own))
    # What the session has read of botocore's data is not read again; boto3 has no public way to its loader.
    core.register_component("data_loader", session._session.get_component("data_loader"))  # noqa: SLF001
    core.set_config_variable("region", session.region_name)
    return core.create_client(service, config=config)


class Sessions:
    """Enters accounts by their access roles."""

    def __init__(self, settings: Settings, sts: "STSClient") -> None:
        """Take the client that the function's own role signs for."""
        self._settings = settings
        self._sts = sts

    @contextmanager
    def entered(self, account_id: str, session_policy: Document) -> Iterator[str | None]:
        """Act in an account, within the session policy, and tell by which access role; by none in the management account.

        A TerminalError tells that every access role was refused.
        """
        if account_id == self._settings.management_account_id:
            yield None
            return
        access_role, credentials = self._assume(account_id, session_policy)
        token = _account_credentials.set(credentials)
        try:
            yield access_role
        finally:
            _account_credentials.reset(token)

    def _assume(self, account_id: str, session_policy: Document) -> tuple[str, ReadOnlyCredentials]:
        refusals = []
        for name in self._settings.access_role_names:
            arn = role_arn(self._settings.partition, account_id, name)
            try:
                with translated_unless_denied(f"assuming {arn}"):
                    # Neither a source identity nor tags: an access role's trust allows sts:AssumeRole alone.
                    answer = self._sts.assume_role(
                        RoleArn=arn,
                        RoleSessionName=f"rolecall-{self._settings.stage}",
                        Policy=session_policy.text,
                        DurationSeconds=_SHORTEST_SESSION,
                    )
            except ClientError as error:
                refusals.append(str(error.response["Error"].get("Message", "")))
                continue
            found = answer["Credentials"]
            return name, ReadOnlyCredentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        raise _refused(account_id, self._settings.access_role_names, refusals)


@contextmanager
def translated_unless_denied(doing: str) -> Iterator[None]:
    """Raise our error for AWS's, but let a plain denial through: another access role may be let in."""
    with translated(doing):
        try:
            yield
        except ClientError as error:
            if error_code(error) not in {"AccessDenied", "AccessDeniedException"}:
                raise account_error(error, doing) from error
            denied = error
        else:
            return
    raise denied


def _refused(account_id: str, names: tuple[str, ...], refusals: list[str]) -> TerminalError:
    reasons = {denial_reason(refusal) for refusal in refusals}
    tried = ", ".join(names)
    if Reason.RCP_DENIED in reasons:
        return TerminalError(
            Reason.RCP_DENIED,
            f"a resource control policy denies assuming the access roles ({tried}) in {account_id}: let the management account through",
        )
    return TerminalError(
        Reason.NO_ACCESS_ROLE,
        f"no access role could be assumed in {account_id} (tried {tried}). Invited accounts have none: create one there that trusts "
        "the management account. If it has another name, add it to AccessRoleNames. If it was edited or deleted, restore its trust. "
        f"AWS answered: {refusals[-1]}",
    )
