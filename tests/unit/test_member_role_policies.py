"""Hostile documents are refused with one clear sentence, and what is accepted only reads."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from chalicelib.checked_settings import checked_settings
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role_policies import why_wrong
from rolecall.deploy.member_role_policies import PARAMETER, check_actions, read_policy_files
from rolecall.deploy.problems import Problems
from tests.conftest import ROOT
from tests.unit.builders import EXTRA, environ


def document(*statements: Any, **elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **elements}, ensure_ascii=False)


def allow(action: Any, **elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": "*", **elements}


def on(resource: str, **elements: Any) -> str:
    return document(allow("s3:GetBucketAcl", Resource=resource, **elements))


READ = allow("s3:GetBucketAcl")
HOSTILE: dict[str, tuple[str | bytes, str]] = {
    # Writes.
    "write": (document(allow("s3:PutObject")), "allows s3:PutObject, which doesn't only read"),
    "write in another case": (document(allow("S3:pUTobject")), "allows S3:pUTobject, which doesn't only read"),
    "write among reads": (document(READ, allow(["s3:ListBucket", "iam:CreateUser"])), "allows iam:CreateUser"),
    "everything": (document(allow("*")), r"allows \*, which includes .* and \d+ more"),
    "a service": (document(allow("s3:*")), r"allows s3:\*, which includes s3:AbortMultipartUpload"),
    "writes by a wildcard": (document(allow("s3:Put*")), r"allows s3:Put\*, which includes s3:Put"),
    "writes by question marks": (
        document(allow("s3:?ut?bject")),
        r"allows s3:\?ut\?bject, which includes s3:PutObject",
    ),
    "writes between asterisks": (document(allow("iam:*e*t*User*")), "which includes iam:CreateUser"),
    "tags": (document(allow("ec2:CreateTags")), "allows ec2:CreateTags, which doesn't only read"),
    "permissions": (document(allow("iam:PassRole")), "allows iam:PassRole, which doesn't only read"),
    "sessions": (document(allow("sts:Assume*")), r"allows sts:Assume\*, which includes sts:AssumeRole"),
    "credentials by a read": (document(allow("redshift:Get*")), "includes redshift:GetClusterCredentials"),
    "an agent by a read": (
        document(allow("bedrock:InvokeAgent")),
        "allows bedrock:InvokeAgent, which doesn't only read",
    ),
    "a connection by a read": (document(allow("codeconnections:Use*")), "includes codeconnections:UseConnection"),
    "session of a pod by a read": (document(allow("eks-auth:*")), "includes eks-auth:AssumeRoleForPodIdentity"),
    "role's credentials by a read": (document(allow("datazone:Get*")), "GetDomainExecutionRoleCredentials, .*GetEnv"),
    "hidden in NotAction": (
        document({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
        "allows by NotAction in statement 1, which includes every action that writes",
    ),
    "hidden behind a condition": (
        document(allow("s3:DeleteBucket", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})),
        "allows s3:DeleteBucket",
    ),
    # Actions that don't exist.
    "unknown action": (document(allow("s3:GetBuckets")), "s3:GetBuckets in statement 1, which is not in this"),
    "unknown action of a thousand letters": (
        document(allow(f"s3:{'x' * 1_000}")),
        "has s3:x+ in statement 1, which is",
    ),
    "unknown service": (document(allow("s4:Get*")), r"s4:Get\* in statement 1, which is not in this release's list"),
    "unknown action in a deny": (
        document(READ, {"Effect": "Deny", "Action": "s3:GetObjects", "Resource": "*"}),
        "s3:GetObjects in statement 2, which is not in this",
    ),
    "wildcard in the service": (document(allow("s*:PutObject")), 'has "s.:PutObject" as Action, which is not'),
    "action without a service": (document(allow("PutObject")), "as Action, which is not . or service:Action"),
    "action that is a number": (document(allow(7)), "has 7 as Action, which is not"),
    "action of Cyrillic letters": (
        document(allow("\u04553:GetObject")),
        r"the character U\+0455, which IAM doesn't allow",
    ),
    "action with a zero-width space": (document(allow("s3:Put\u200bObject")), r"the character U\+200B"),
    "action of fullwidth letters": (document(allow("\uff533:PutObject")), r"the character U\+FF53"),
    "action with a line feed": (document(allow("s3:GetObject\n")), "as Action, which is not"),
    "no action": (document(allow([])), "has an empty Action in statement 1"),
    "action and NotAction": (document(allow("s3:Get*", NotAction="s3:*")), "has both Action and NotAction"),
    # Documents that aren't what they seem.
    "principal": (document({**READ, "Principal": "*"}), "the element .Principal., which only a resource's policy"),
    "element in another case": (document({**READ, "action": "s3:*"}), r"the element .action., which no statement"),
    "element that doesn't exist": (document(READ, Statements=[]), "has the element 'Statements': a policy document"),
    "effect in another case": (document({**READ, "Effect": "allow"}), "has no Effect of Allow or Deny in statement 1"),
    "effect that is a list": (document({**READ, "Effect": ["Allow"]}), "has no Effect of Allow or Deny"),
    "older version": (document(READ, Version="2008-10-17"), 'needs "Version": "2012-10-17"'),
    "no statement": (document(), "has no Statement"),
    "statement that is a text": (document("s3:*"), "has no object in statement 1"),
    "no resource": (document({"Effect": "Allow", "Action": "s3:Get*"}), "has neither Resource nor NotResource"),
    "resource that is not an ARN": (on("my-bucket"), 'has "my-bucket" as Resource, which is not'),
    "same Sid twice": (document({**READ, "Sid": "A"}, {**READ, "Sid": "A"}), "has the same Sid in two statements"),
    "Sid that is a list": (document({**READ, "Sid": ["A"]}), "has a Sid that is not of letters and digits"),
    "condition that is a list": (
        document({**READ, "Condition": []}),
        "has a Condition that is not an object of operators",
    ),
    "condition without keys": (document({**READ, "Condition": {"Bool": {}}}), "has a Condition that is not an object"),
    "condition with an object": (document({**READ, "Condition": {"Bool": {"a": {}}}}), "a Condition with a value that"),
    # Placeholders.
    "unknown placeholder": (
        on("arn:aws:s3:::{account}"),
        "contains .{account}., which is not a placeholder: choose from",
    ),
    "placeholder of a shell": (
        on("arn:aws:s3:::${account_id}"),
        r"contains .\$\{account_id\}., which is not a placeholder",
    ),
    "placeholder in a variable": (on("arn:aws:s3:::${aws:PrincipalTag/{account_id}}"), r"contains .\$\{aws:Princip"),
    "placeholder in pieces": (on("arn:aws:s3:::{{account_id}account_id}"), "contains .{"),
    "placeholder that doesn't end": (
        on("arn:aws:s3:::{account_id"),
        "contains .{account_id., which is not a placeholder",
    ),
    "placeholder in a key": (
        on("*", Condition={"Bool": {"{x}": "true"}}),
        "contains .{x}., which is not a placeholder",
    ),
    "placeholder with an escape sequence": (on("arn:aws:s3:::{\x9b31m}"), r"contains .\{.x9b31m\}., which is no"),
    "placeholder of a thousand letters": (
        on(f"arn:aws:s3:::{{{'x' * 1_000}}}"),
        "contains .{xxx.*, which is not a placeholder",
    ),
    # No JSON, or more than JSON.
    "no JSON": ("Version: 2012-10-17", "is not JSON: Expecting value"),
    "empty": ("", "is not JSON: Expecting value"),
    "comment": (f"// reads\n{document(READ)}", "is not JSON"),
    "list": (f"[{document(READ)}]", "is not a policy document: an object with Version and Statement"),
    "two documents": (document(READ) * 2, "is not JSON: Extra data"),
    "key that occurs twice": (
        document(READ).replace('"Action"', '"Action": "s3:*", "Action"'),
        "contains the key 'Action' twice in one object",
    ),
    "number that is none": (document({**READ, "Condition": float("nan")}), "contains NaN, which is not a JSON number"),
    "infinite number": (document(READ).replace('"*"', "1e999"), "contains 1e999, which is not a JSON number"),
    "number of a million digits": (document(READ).replace('"*"', "9" * 10_000), "is not JSON: Exceeds the limit"),
    "nested deeply": ("[" * 50_000, "is nested too deeply"),
    "half a surrogate pair": (document({**READ, "Sid": "x"}).replace('"x"', r'"\ud800"'), r"the character U\+D800"),
    "UTF-16": (document(READ).encode("utf-16"), "is not UTF-8: byte 0"),
    "byte that is not UTF-8": (document(READ).encode() + b"\xff", r"is not UTF-8: byte \d+"),
    "too long": (
        document(READ, Id="x" * 4_096),
        r"MEMBER_ROLE_POLICIES takes \d+ bytes, and CloudFormation allows 4096",
    ),
    "no room beside the deny": (
        document(*[READ] * 40),
        r"8\d{3} more are the deny of data reads, .* deny less by DENY_DATA_READS_EXCEPT",
    ),
    "huge": (document(READ) + " " * 70_000, "has more than 65536 bytes"),
}


def problems_of(
    files: list[str], kept: str = "", *, allow_writes: bool = False, kept_deny: str = "true", **parameters: str
) -> Problems:
    """Return what the checks before a deployment find."""
    problems = Problems()
    value = read_policy_files(files, problems) or ""
    try:
        checked_settings(environ(MEMBER_ROLE_POLICIES=value))
    except SettingsError as error:
        problems.found += error.problems
    values = {PARAMETER: value, "DenyDataReads": "true", "DenyDataReadsExcept": "", **parameters}
    kept_values = {PARAMETER: kept, "DenyDataReads": kept_deny} if kept else {}
    check_actions(values, kept_values, problems, allow_writes=allow_writes)
    return problems


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_document_is_refused_with_one_sentence(name: str, tmp_path: Path) -> None:
    content, expected = HOSTILE[name]
    path = tmp_path / "extra.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    (problem,) = problems_of([str(path)]).found

    assert re.search(expected, problem), problem
    assert len(problem) < 500
    assert problem.isprintable()


def test_file_that_cant_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")

    found = problems_of([str(tmp_path / name) for name in ("directory", "pipe", "missing")]).found

    assert [problem.removeprefix(f"{tmp_path}/").partition(": correct")[0] for problem in found] == [
        "directory is not a file",
        "pipe is not a file",
        "missing can't be read: No such file or directory",
    ]


def test_names_follow_from_the_files_and_must_differ(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("Extra reads (1).json", "b.json", "denydatareads.json")]
    for path in paths:
        path.write_text(EXTRA)
    problems = Problems()

    value = read_policy_files([str(paths[0]), f"Other={paths[1]}"], problems)

    assert problems.found == []
    assert value == f'{{"Extra-reads-1-":{EXTRA},"Other":{EXTRA}}}'
    assert [
        "has the name of another file" in each for each in problems_of([f"A={paths[0]}", f"A={paths[1]}"]).found
    ] == [True]
    assert "differ only by case" in problems_of([f"A={paths[0]}", f"a={paths[1]}"]).found[0]
    assert "has the name of the deny" in problems_of([str(paths[2])]).found[0]
    assert "has no valid name" in problems_of([f"a/b={paths[0]}"]).found[0]


def test_document_of_reads_is_accepted(tmp_path: Path) -> None:
    """With a byte order mark, as Windows writes it, variables of IAM, and a deny of writes."""
    path = tmp_path / "extra.json"
    statements = [
        allow(
            ["s3:Get*", "macie2:List*", "ssm:DescribeParameters"],
            Resource="arn:{partition}:s3:::{account_id}-${aws:userid}",
        ),
        {"Effect": "Deny", "NotAction": "s3:*", "NotResource": "*", "Condition": {"Null": {"aws:userid": True}}},
    ]
    path.write_text("\ufeff" + document(*statements))

    problems = problems_of([str(path)])

    assert problems.found == []
    (warning,) = problems.warnings
    assert warning == (
        "MemberRolePolicies: extra allows s3:Get*, and DenyDataReads denies s3:GetDataAccess, s3:GetObject, s3:GetObjectAnnotation"
        " and 3 more: to allow it, set DenyDataReadsExcept"
    )
    excepted = "s3:GetObject,s3:GetObjectAnnotation,s3:GetObjectTorrent,s3:GetObjectVersion"
    (warning,) = problems_of([str(path)], DenyDataReadsExcept=excepted).warnings
    assert "denies s3:GetDataAccess, s3:GetObjectVersionTorrent" in warning


def test_credentials_are_refused_once_they_arent_denied(tmp_path: Path) -> None:
    """Also if the document was deployed while they were."""
    path = tmp_path / "extra.json"
    path.write_text(
        document(allow(["s3:GetDataAccess", "logs:StartQuery", "codecommit:GitPull", "waf:GetChangeToken"]))
    )
    kept = f'{{"extra":{path.read_text()}}}'
    expected = [
        "MemberRolePolicies: extra allows s3:GetDataAccess, which doesn't only read, and the member role only reads"
    ]

    assert problems_of([str(path)]).found == []
    changes: list[dict[str, Any]] = [{"DenyDataReads": "false"}, {"DenyDataReadsExcept": "s3:GetDataAccess"}]
    for opened in changes:
        for before in ("", kept):
            found = problems_of([str(path)], kept=before, **opened).found
            assert [each.partition(": allow only")[0] for each in found] == expected
        assert problems_of([str(path)], kept=kept, kept_deny="false", **opened).found == []


def test_writes_are_a_warning_if_allowed_or_deployed_before(tmp_path: Path) -> None:
    path = tmp_path / "extra.json"
    path.write_text(document(allow(["s3:PutObject", "s3:NewRead"])))
    expected = [
        "MemberRolePolicies: extra has s3:NewRead in statement 1, which is not in this release's list of actions",
        "MemberRolePolicies: extra allows s3:PutObject, which doesn't only read",
    ]

    allowed = problems_of([str(path)], allow_writes=True)
    kept = problems_of([str(path)], kept=f'{{"extra":{path.read_text()}}}')
    changed = [problems_of([str(path)], kept=kept) for kept in (f'{{"extra":{EXTRA}}}', '{"extra":', "")]

    assert (allowed.found, allowed.warnings) == (kept.found, kept.warnings) == ([], expected)
    assert [len(each.found) for each in changed] == [2, 2, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[]", "is not a JSON object of policy documents by their names"),
        ('{"A":', "is not JSON"),
        ('{"A":{}}', "contains the policy 'A', which needs \"Version\""),
        (f'{{"":{EXTRA}}}', "contains the policy '', which has no valid name"),
        (f'{{"A":{EXTRA},"A":{EXTRA}}}', "contains the key 'A' twice"),
    ],
)
def test_malformed_parameter_stops_the_functions(value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=f"MEMBER_ROLE_POLICIES {expected}"):
        checked_settings(environ(MEMBER_ROLE_POLICIES=value))


def test_document_nested_more_deeply_than_python_recurses_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        nested = [nested]

    assert why_wrong({"Version": "2012-10-17", "Statement": nested}) == "is nested too deeply"


def test_white_space_of_the_parameter_is_not_deployed() -> None:
    value = json.dumps({"A": json.loads(EXTRA)}, indent=4)

    assert checked_settings(environ(MEMBER_ROLE_POLICIES=value)).member_role_policies == {"A": Document(EXTRA)}


def test_example_for_prowler_is_accepted_beside_the_deny(tmp_path: Path) -> None:
    path = tmp_path / "prowler.json"
    path.write_text((ROOT / "docs/readers.md").read_text().partition("```json\n")[2].partition("```")[0])

    problems = problems_of([str(path)])

    assert (problems.found, problems.warnings) == ([], [])
