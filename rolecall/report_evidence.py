"""The evidence in a report: what `rolecall prove --json` wrote, read from its file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from rolecall.console import printable
from rolecall.errors import CommandError
from rolecall.files import read_text
from rolecall.prove.evidence import Answer
from rolecall.report_data import check_same_stage, parse_text

_RESULTS = {True: "passed", False: "failed", None: "unknown"}
_ACCOUNT = "{account_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvedClaim:
    """What was claimed of `accounts`, and in how many of them it passed, failed or is unknown."""

    text: str
    holds: bool | None
    accounts: int
    passed: int
    failed: int
    unknown: int
    explicitly_denied: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TestedCall:
    """One call: the account that it tested, when, and AWS's id of it."""

    account_id: str
    name: str
    at: str
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SameAnswer:
    """The calls of one kind to which AWS returned the same message; `{account_id}` is in place of each one's account."""

    claim: str
    action: str
    resource: str
    expected: str
    answer: str
    holds: bool | None
    code: str
    message: str
    calls: tuple[TestedCall, ...]

    @property
    def is_denial(self) -> bool:
        """Whether AWS denied the calls, as expected or not."""
        return self.answer == Answer.DENIED


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedEvidence:
    """The result of one run of `rolecall prove`.

    `results` has that of each account, and `changed` the settings that differ from the report's.
    """

    result: str
    principal_arn: str
    started: datetime
    ended: datetime
    frozen: bool
    claims: tuple[ProvedClaim, ...]
    answers: tuple[SameAnswer, ...]
    results: Mapping[AccountId, str]
    changed: tuple[str, ...]

    @property
    def denials(self) -> list[SameAnswer]:
        """The calls that AWS denied as expected."""
        return [each for each in self.answers if each.is_denial and each.holds]

    @property
    def unexpected(self) -> list[SameAnswer]:
        """The calls whose answer was not the expected one, or unclear."""
        return [each for each in self.answers if not each.holds]

    def as_json(self) -> dict[str, Any]:
        """Return JSON data; the results are those of the accounts."""
        names = [field.name for field in fields(self) if field.name not in {"results", "answers"}]
        answers = [asdict(each) for each in (*self.unexpected, *self.denials)]
        times = {"started": self.started.isoformat(), "ended": self.ended.isoformat()}
        claims = [asdict(each) for each in self.claims]
        return {name: getattr(self, name) for name in names} | times | {"claims": claims, "answers": answers}


def read_evidence_file(path: Path, settings: Settings, region: str) -> ReportedEvidence:
    """Return the evidence in a file. Raise CommandError if it is no evidence, or that of another stage."""
    try:
        content = json.loads(read_text(path))
        found = (
            _shown(content["stage"]),
            _shown(content["region"]),
            _shown(content["management_account_id"]),
        )
        evidence = _parse(content, settings)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(f"{path} is not evidence: pass the output of rolecall prove --json") from None
    statement, remedy = f"{path} is evidence of", "run rolecall prove --json for this stage"
    check_same_stage(found, settings, region, statement, remedy)
    return evidence


def _parse(content: Mapping[str, Any], settings: Settings) -> ReportedEvidence:
    return ReportedEvidence(
        result=_shown(content["result"]),
        principal_arn=_shown(content["source_principal"]["arn"]),
        started=datetime.fromisoformat(content["started"]),
        ended=datetime.fromisoformat(content["ended"]),
        frozen=content["frozen"] is True,
        claims=tuple(_claim(each) for each in content["claims"]),
        answers=_same_answers(content["accounts"]),
        results={AccountId(_shown(each["account_id"])): _RESULTS[each["holds"]] for each in content["accounts"]},
        changed=_changed_settings(content, settings),
    )


def _claim(content: Mapping[str, Any]) -> ProvedClaim:
    counts = ("accounts", "passed", "failed", "unknown", "explicitly_denied")
    return ProvedClaim(
        text=_shown(content["text"]), holds=content["holds"], **{name: int(content[name]) for name in counts}
    )


def _same_answers(accounts: Iterable[Mapping[str, Any]]) -> tuple[SameAnswer, ...]:
    """Group the calls by all but their account, so that each message is shown once."""
    groups: dict[tuple[Any, ...], list[TestedCall]] = {}
    for account in accounts:
        account_id = _shown(account["account_id"])
        for call in account["calls"]:
            texts = (call[name] for name in ("claim", "action", "resource", "expected", "answer", "code", "message"))
            same = (call["holds"], *(_shown(each or "").replace(account_id, _ACCOUNT) for each in texts))
            tested = TestedCall(
                account_id=account_id,
                name=_shown(account["name"]),
                at=_shown(call["at"]),
                request_id=_shown(call["request_id"] or ""),
            )
            groups.setdefault(same, []).append(tested)
    return tuple(
        SameAnswer(
            holds=holds,
            claim=claim,
            action=action,
            resource=resource,
            expected=expected,
            answer=answer,
            code=code,
            message=message,
            calls=tuple(calls),
        )
        for (holds, claim, action, resource, expected, answer, code, message), calls in groups.items()
    )


def _changed_settings(content: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
    """Return the settings that the evidence was collected with and that are different now."""
    then_and_now = {
        "MemberRoleName": (content["member_role_name"], settings.member_role_name),
        "SourcePrincipalArns": (content["source_principals"], [each.arn for each in settings.source_principals]),
        "ExternalId": (content["external_id_required"], settings.external_id is not None),
        "DenyDataReads": (content["data_reads_denied"], settings.deny_data_reads),
        "DenyDataReadsExcept": (content.get("data_reads_denied_except", []), sorted(settings.deny_data_reads_except)),
    }
    return tuple(name for name, (then, now) in then_and_now.items() if then != now)


def _shown(value: object) -> str:
    return printable(parse_text(value))
