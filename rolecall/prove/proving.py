"""The proofs themselves: each call made as the reader, and AWS's answer written down."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.settings import Settings
from rolecall.prove.evidence import Answer, Call, Claim, Subject, Tried, read_answer
from rolecall.prove.reader import SESSION_NAME, THREADS, Reader

_PARAMETER = "/rolecall/prove"
"""A parameter that need not exist: whether it may be read is decided before it is looked for."""


class Proving:
    """Tries accounts, several at once."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        """Take the stage's settings and whose credentials all calls are signed with."""
        self._settings = settings
        self._reader = reader
        self._sts = reader.client("sts")

    def tried(self, subjects: Iterable[Subject]) -> Iterator[Tried]:
        """Try each account, and give each as it is done, in order."""
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(self._try, subjects)

    def _try(self, subject: Subject) -> Tried:
        calls: dict[Claim, Call] = {}
        if Claim.KEPT_OUT in subject.claims:
            calls[Claim.KEPT_OUT], _ = self._assume(subject, Answer.DENIED, external_id=True)
            return Tried(subject=subject, calls=calls)
        calls[Claim.ASSUMED], keys = self._assume(subject, Answer.ALLOWED, external_id=True)
        if keys is not None:
            self._read(subject, keys, calls)
        if Claim.EXTERNAL_ID_ASKED_FOR in subject.claims:
            calls[Claim.EXTERNAL_ID_ASKED_FOR], _ = self._assume(subject, Answer.DENIED, external_id=False)
        return Tried(subject=subject, calls=calls)

    def _assume(self, subject: Subject, expected: Answer, *, external_id: bool) -> tuple[Call, dict[str, str] | None]:
        request = {"RoleArn": subject.role_arn, "RoleSessionName": SESSION_NAME}
        if external_id and self._settings.external_id is not None:
            request["ExternalId"] = self._settings.external_id
        call, answer = _asked("sts:AssumeRole", subject.role_arn, expected, lambda: self._sts.assume_role(**request))
        return call, answer and answer["Credentials"]

    def _read(self, subject: Subject, keys: dict[str, str], calls: dict[Claim, Call]) -> None:
        iam = self._reader.client("iam", keys)
        calls[Claim.READ], _ = _asked("iam:GetAccountSummary", "*", Answer.ALLOWED, iam.get_account_summary)
        if Claim.DATA_DENIED in subject.claims:
            ssm = self._reader.client("ssm", keys)
            calls[Claim.DATA_DENIED], _ = _asked(
                "ssm:GetParameter", _PARAMETER, Answer.DENIED, lambda: ssm.get_parameter(Name=_PARAMETER)
            )


def _asked(action: str, resource: str, expected: Answer, ask: Callable[[], Any]) -> tuple[Call, Any]:
    """Make a call, and write down what AWS answered beside the answer itself."""
    at = datetime.now(UTC)
    answer: Any = None
    code = message = request_id = None
    try:
        answer = ask()
    except ClientError as error:
        response: Any = error.response
        code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
        request_id, verdict = response.get("ResponseMetadata", {}).get("RequestId"), read_answer(code)
    except BotoCoreError as error:
        code, message, verdict = type(error).__name__, str(error), Answer.UNCLEAR
    else:
        request_id, verdict = answer["ResponseMetadata"].get("RequestId"), Answer.ALLOWED
    call = Call(
        action=action,
        resource=resource,
        expected=expected,
        answer=verdict,
        code=code,
        message=message,
        request_id=request_id,
        at=at,
    )
    return call, answer
