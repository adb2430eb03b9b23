"""docs/detections.md has the names, durations and calls that the code uses, and filters that the services accept."""

import json
import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.loaders import Loader

from chalicelib.aws.sessions import Sessions, client_config
from chalicelib.documents import Document
from rolecall.deploy import preconditions
from rolecall.prove import prover, source_session
from tests.conftest import ROOT
from tests.unit.builders import MEMBER, settings

TEXT = (ROOT / "docs" / "detections.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


class Sts:
    """Records the request, and returns credentials."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}

    def assume_role(self, **request: Any) -> Any:
        self.request = request
        keys = {"AccessKeyId": "key", "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": keys | {"Expiration": datetime.now(UTC)}}


def test_sessions_are_as_documented() -> None:
    sts = Sts()
    with Sessions(settings(STAGE="prod"), cast("Any", sts)).entered(MEMBER, Document("{}")):
        pass

    assert sts.request["RoleSessionName"] == "rolecall-prod"
    assert sts.request.keys() == {"RoleArn", "RoleSessionName", "Policy", "DurationSeconds"}
    assert f"last {sts.request['DurationSeconds']} seconds" in TEXT
    assert vars(client_config(1))["user_agent"].endswith(" rolecall")
    for name in ("rolecall-prod", source_session.SESSION_NAME, preconditions.SESSION_NAME, prover.PARAMETER):
        assert f"`{name}`" in TEXT


def test_metric_filter_excludes_only_what_rolecall_provokes() -> None:
    (pattern,) = [block for block in _blocks("text") if "$.errorCode" in block]
    excluded = re.findall(r'\$\.([\w.]+) != "([^"]+)"', pattern)
    assert excluded == [
        ("sourceIPAddress", "delivery.logs.amazonaws.com"),
        ("eventName", "HeadBucket"),
        ("eventName", "GetParameter"),
        ("requestParameters.name", prover.PARAMETER),
        ("eventName", "AssumeRole"),
        ("userIdentity.sessionContext.sessionIssuer.userName", "rolecall-prod-*"),
    ]
    assert pattern.count("(") == pattern.count(")")
    assert len(pattern) <= 1024  # of a filter pattern ("PutMetricFilter" in the "Amazon CloudWatch Logs API Reference")


def test_guardduty_accepts_the_criteria() -> None:
    (criteria,) = [block["Criterion"] for text in _blocks("json") if "Criterion" in (block := json.loads(text))]
    known = Loader().load_service_model("guardduty", "service-2")["shapes"]["Condition"]["members"]
    assert {operator for condition in criteria.values() for operator in condition} <= known.keys()
    assert criteria["resource.accessKeyDetails.principalId"] == {"Matches": ["*:rolecall-prod"]}
    assert tuple(criteria["resource.accessKeyDetails.userName"]["Equals"]) == settings().access_role_names


@pytest.mark.parametrize("language", ["sql", "text"])
def test_queries_name_the_sessions(language: str) -> None:
    queries = [block for block in _blocks(language) if "$.errorCode" not in block]
    assert queries
    assert all("rolecall-prod" in block for block in queries)
