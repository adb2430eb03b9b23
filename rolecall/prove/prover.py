"""The calls that test each claim, with AWS's answers."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.settings import Settings
from rolecall.prove.evidence import DATA_READ, AccountClaims, AccountEvidence, Answer, Call, Claim, parse_answer
from rolecall.prove.source_session import SESSION_NAME, THREADS, SourceSession

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef, CredentialsTypeDef

_Response = TypeVar("_Response")

PARAMETER = "/rolecall/prove"
"""A parameter that need not exist: AWS checks the permission before it looks for it."""


class Prover:
    """Tests accounts, several at once."""

    def __init__(self, settings: Settings, session: SourceSession) -> None:
        """Take the stage's settings and the source principal's session."""
        self._settings = settings
        self._session = session
        self._sts = session.client("sts")

    def test(self, accounts: Iterable[AccountClaims]) -> Iterator[AccountEvidence]:
        """Test accounts, and yield the results in order."""
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(self._test, accounts)

    def _test(self, account: AccountClaims) -> AccountEvidence:
        calls: dict[Claim, Call] = {}
        if Claim.NOT_ASSUMABLE in account.claims:
            calls[Claim.NOT_ASSUMABLE], _ = self._assume(account, Answer.DENIED, external_id=True)
            return AccountEvidence(account=account, calls=calls)
        calls[Claim.ASSUMED], keys = self._assume(account, Answer.ALLOWED, external_id=True)
        if keys is not None:
            self._read(account, keys, calls)
        if Claim.EXTERNAL_ID_REQUIRED in account.claims:
            calls[Claim.EXTERNAL_ID_REQUIRED], _ = self._assume(account, Answer.DENIED, external_id=False)
        return AccountEvidence(account=account, calls=calls)

    def _assume(
        self, account: AccountClaims, expected: Answer, *, external_id: bool
    ) -> tuple[Call, "CredentialsTypeDef | None"]:
        request: AssumeRoleRequestTypeDef = {"RoleArn": account.role_arn, "RoleSessionName": SESSION_NAME}
        if external_id and self._settings.external_id is not None:
            request["ExternalId"] = self._settings.external_id
        call, response = _recorded(
            "sts:AssumeRole", account.role_arn, expected, lambda: self._sts.assume_role(**request)
        )
        return call, response["Credentials"] if response else None

    def _read(self, account: AccountClaims, keys: "CredentialsTypeDef", calls: dict[Claim, Call]) -> None:
        iam = self._session.client("iam", keys=keys)
        calls[Claim.READ], _ = _recorded("iam:GetAccountSummary", "*", Answer.ALLOWED, iam.get_account_summary)
        if Claim.DATA_DENIED in account.claims:
            ssm = self._session.client("ssm", keys=keys)
            calls[Claim.DATA_DENIED], _ = _recorded(
                DATA_READ, PARAMETER, Answer.DENIED, lambda: ssm.get_parameter(Name=PARAMETER)
            )


def _recorded(
    action: str, resource: str, expected: Answer, make_call: Callable[[], _Response]
) -> tuple[Call, _Response | None]:
    """Make a call, and return its record and its response, or None if it failed."""
    at = datetime.now(UTC)
    response: _Response | None = None
    code = message = request_id = None
    try:
        response = make_call()
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = details.get("Code", ""), details.get("Message", "")
        request_id, answer = error.response.get("ResponseMetadata", {}).get("RequestId"), parse_answer(code)
    except BotoCoreError as error:
        code, message, answer = type(error).__name__, str(error), Answer.UNCLEAR
    else:
        request_id, answer = _request_id(response), Answer.ALLOWED
    call = Call(
        action=action,
        resource=resource,
        expected=expected,
        answer=answer,
        code=code,
        message=message,
        request_id=request_id,
        at=at,
    )
    return call, response


def _request_id(response: object) -> str | None:
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    request_id: str | None = metadata.get("RequestId")
    return request_id
