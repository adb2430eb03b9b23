"""Clients, and credentials for one account at a time: the narrowed assumption of an access role."""

import gc
from collections.abc import Iterator, Sequence
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

_SESSION_SECONDS = 900  # STS's minimum; a pass over one account is shorter

_account_credentials: ContextVar[ReadOnlyCredentials | None] = ContextVar("account_credentials", default=None)


class _CurrentCredentials(Credentials):
    """The credentials of the entered account.

    They let one client work in all accounts: creating a client for each would cost more than all its calls.
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

    Two attempts of 2 + 5 seconds and a second between them: less than the run lease (run_lease.LEASE_SECONDS) is valid for when
    a call begins.
    """
    return client_config(threads).merge(
        Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=5)
    )


def invoke_config() -> Config:
    """Return the configuration of the client that waits for a run of publish: one call ends within 12 seconds.

    A longer run continues; freeze, whose timeout is 60 seconds, reads the records meanwhile.
    """
    return client_config(1).merge(
        Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
    )


def client_config(threads: int) -> Config:
    """Return the configuration of a client that so many threads use; botocore retries throttled calls."""
    return Config(
        max_pool_connections=threads,
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=5,
        read_timeout=20,
        # botocore builds its own twice in each call, at a tenth of the call's cost.
        user_agent=f"Botocore/{botocore.__version__} rolecall",
    )


@contextmanager
def models_loading() -> Iterator[None]:
    """Create clients without garbage collection.

    A service's model has tens of thousands of objects that all stay: collecting would take more than half of the time here, and
    later a tenth of each account's.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def account_client(session: "Session", service: str, config: Config, region: str | None = None) -> Any:  # noqa: ANN401 - one of boto3's generated clients
    """Create a client that acts in the account that `Sessions` has entered, in the session's region or another."""
    own = session.get_credentials()
    if own is None:
        message = "no AWS credentials: Rolecall runs as a Lambda function, which has its role's"
        raise RuntimeError(message)
    core = botocore.session.Session()
    core.register_component("credential_provider", _CurrentProvider(own))
    # The session's loader has cached botocore's data; boto3 has no public access to it.
    core.register_component("data_loader", session._session.get_component("data_loader"))  # noqa: SLF001
    core.set_config_variable("region", region or session.region_name)
    return core.create_client(service, config=config)


class Sessions:
    """Enters accounts by their access roles."""

    def __init__(self, settings: Settings, sts: "STSClient") -> None:
        """Take the client that the function's own role signs for."""
        self._settings = settings
        self._sts = sts
        self.packed_policy_percent = 0
        """The largest packed size of a session policy, in percent of STS's limit; 0 before an access role was assumed."""

    @contextmanager
    def entered(
        self, account_id: str, session_policy: Document, names: Sequence[str] | None = None
    ) -> Iterator[str | None]:
        """Act in an account within the session policy; yield the access role's name, or None in the management account.

        `names` are the access roles to try, in their order, instead of those in the settings. Raise TerminalError if none of them
        could be assumed.
        """
        if account_id == self._settings.management_account_id:
            yield None
            return
        access_role, credentials = self._assume(account_id, session_policy, names or self._settings.access_role_names)
        token = _account_credentials.set(credentials)
        try:
            yield access_role
        finally:
            _account_credentials.reset(token)

    def _assume(
        self, account_id: str, session_policy: Document, names: Sequence[str]
    ) -> tuple[str, ReadOnlyCredentials]:
        denials = []
        for name in names:
            arn = role_arn(self._settings.partition, account_id, name)
            try:
                with translated_unless_denied(f"assuming {arn}"):
                    # Neither a source identity nor tags: an access role's trust allows sts:AssumeRole alone.
                    answer = self._sts.assume_role(
                        RoleArn=arn,
                        RoleSessionName=f"rolecall-{self._settings.stage}",
                        Policy=session_policy.text,
                        DurationSeconds=_SESSION_SECONDS,
                    )
            except ClientError as error:
                denials.append(str(error.response["Error"].get("Message", "")))
                continue
            self.packed_policy_percent = max(self.packed_policy_percent, answer.get("PackedPolicySize", 0))
            found = answer["Credentials"]
            return name, ReadOnlyCredentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        raise _not_assumed(account_id, names, denials)


@contextmanager
def translated_unless_denied(doing: str) -> Iterator[None]:
    """Raise Rolecall's error for an AWS error, except for a denial: another access role may be allowed."""
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


def _not_assumed(account_id: str, names: Sequence[str], denials: list[str]) -> TerminalError:
    reasons = set(map(denial_reason, denials))
    tried = ", ".join(names)
    if Reason.RCP_DENIED in reasons:
        return TerminalError(
            Reason.RCP_DENIED,
            f"a resource control policy denies assuming the access roles ({tried}) in {account_id}: allow the management account in it",
        )
    return TerminalError(
        Reason.NO_ACCESS_ROLE,
        f"no access role could be assumed in {account_id} (tried {tried}). Invited accounts have none: create one there that trusts "
        "the management account, or set AccessRoleStackSet=true. If it has another name, add it to AccessRoleNames. If it was edited or deleted, restore its trust. "
        f"AWS returned: {denials[-1]}",
    )
