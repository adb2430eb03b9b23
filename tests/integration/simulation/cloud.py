"""AWS in memory: several accounts' IAM, Organizations, STS, DynamoDB and SQS at one virtual time, and the rules of every call."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from chalicelib.settings import Settings
from tests.integration.simulation.answers import Call, RuleBrokenError, refusal
from tests.integration.simulation.iam import Iam, Role, account_of
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID, Members
from tests.integration.simulation.queues import Queues
from tests.integration.simulation.tables import Tables
from tests.integration.simulation.witness import Witness

SOURCE_POLICY = "CrossAccountReadOnlyAccess"
ACCESS_ROLE = "OrganizationAccountAccessRole"
SOURCE = "888888888888"  # a member account that the readers may be in
START = 1_800_000_000.0
OWN_KEY = "AKIAROLECALLXXXXXXXX"
_SESSION = 900.0


@dataclass
class Session:
    """What an assumed access role's credentials let one do, and until when."""

    account_id: str
    until: float


@dataclass
class Seen:
    """One invocation: its function, since when it runs, and what it was answered about what it may then change."""

    ours: dict[str, bool | None] = field(default_factory=dict)  # None: there was nothing
    settings: Settings | None = None
    function: str = ""
    name: str = ""
    since: float = 0.0
    revisions: dict[str, int] = field(default_factory=dict)  # of the rows that it read


class Cloud:
    """Everything that AWS holds; once a rule is broken, every later call says so, too."""

    def __init__(self, source_account: str = MANAGEMENT) -> None:
        self.source_account, self.reader = source_account, reader(source_account)
        self.readers = {self.reader}  # and those that other settings name
        self.members, self.iam, self.tables, self.queues = Members(), Iam(), Tables(), Queues()
        self.sessions: dict[str, Session] = {}
        self.denied: dict[str, str] = {}  # accounts whose access role can't be assumed, with the denial's text
        self.unwritable: set[str] = set()  # policies that IAM refuses to write
        self.crowd: frozenset[str] = frozenset()  # the orphaned accounts that the source policy names
        self.others: frozenset[str] = frozenset()  # the source principal's other policies
        self.stale = 0.0  # seconds by which IAM's reads of policies are late
        self.broken: str | None = None
        self.witness = Witness(self)
        self.pass_time(START - 86_400)
        for account_id in dict.fromkeys((MANAGEMENT, source_account)):
            self.join(account_id)
        self.iam.put(self.reader, Role(self.reader))
        self.pass_time(START)

    @property
    def now(self) -> float:
        return self.iam.now

    def pass_time(self, until: float) -> None:
        self.iam.now = self.members.now = until
        self.queues.pass_time(until)

    def require(self, rule: str, kept: bool) -> None:
        if not kept:
            self.broken = rule
            raise RuleBrokenError(rule)

    def join(self, account_id: str, unit: str | None = None, *, access_role: bool = True) -> None:
        self.members.join(account_id, unit)
        if access_role and account_id != MANAGEMENT:
            arn = f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}"
            self.iam.put(arn, Role(arn))

    def is_open(self, account_id: str) -> bool:
        """Tell whether an account can be entered."""
        if account_id == MANAGEMENT:
            return True
        arn = f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}"
        return self.is_active(account_id) and account_id not in self.denied and self.iam.role(arn) is not None

    def is_active(self, account_id: str) -> bool:
        """Tell whether an account is a member that is neither closed nor suspended."""
        member = self.members.members.get(account_id)
        return member is not None and member.state == "ACTIVE"

    def grants(self, account_id: str) -> bool:
        """Whether the source policy grants an account, frozen or not."""
        member = account_id in self.members.members
        return any(grant.grants(account_id, member=member) for grant in self.granted())

    def granted(self) -> list["Grant"]:
        """List what each of the source policy's managed policies grants."""
        return [granted_by(policy.document) for policy in self.source_policies().values()]

    def answer(self, call: Call, seen: Seen) -> dict[str, Any]:
        """Carry out a call of an invocation, and check what it changed."""
        if self.broken is not None:
            raise RuleBrokenError(self.broken)
        with self.witness.watching(call, seen):
            return self._answer(call, seen)

    def _answer(self, call: Call, seen: Seen) -> dict[str, Any]:
        match call.service:
            case "dynamodb":
                return self.tables.answer(call.name, call.params)
            case "sqs":
                return self.queues.answer(call.name, call.params)
            case "organizations":
                return self.members.answer(call.name, call.params)
            case "sts":
                return self._assume(call.params["RoleArn"])
            case "iam":
                return self._in_iam(call, self.account_of(call), seen)
        raise NotImplementedError(call.operation)

    def account_of(self, call: Call) -> str:
        """Tell which account a call is made in."""
        if call.service == "sts":
            return account_of(call.params["RoleArn"])
        session = self.sessions.get(call.access_key)
        return session.account_id if session and call.service == "iam" else MANAGEMENT

    def _assume(self, arn: str) -> dict[str, Any]:
        account_id = account_of(arn)
        self.require("no account is entered that Organizations never confirmed", account_id in self.members.known)
        if self.iam.role(arn) is None or not self.is_open(account_id):
            why = self.denied.get(account_id, "")
            raise refusal("AccessDenied", f"not authorized to perform: sts:AssumeRole on resource: {arn} {why}", 403)
        key = f"ASIA{len(self.sessions):016}"
        self.sessions[key] = Session(account_id, self.now + _SESSION)
        until = datetime.fromtimestamp(self.now + _SESSION, UTC)
        return {"Credentials": {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": until}}

    def _in_iam(self, call: Call, account_id: str, seen: Seen) -> dict[str, Any]:
        session = self.sessions.get(call.access_key)
        if session is not None and session.until < self.now:
            raise refusal("ExpiredToken", "The security token included in the request is expired", 403)
        arn = _about(call, account_id)
        if account_of(arn) != account_id:
            raise refusal("AccessDenied", f"not authorized to perform: iam:{call.name} on resource: {arn}", 403)
        if call.name.startswith(("Get", "List")):
            if self.stale and ":policy/" in arn:
                self.iam.seen_at = self.now - self.stale
            try:
                answer = self.iam.answer(call.name, call.params, account_id)
            except Exception:
                if call.name in {"GetRole", "GetPolicy"}:
                    seen.ours[arn] = None
                raise
            finally:
                if self.stale:
                    self.iam.seen_at = None
            if call.name in {"GetRole", "GetPolicy"}:
                tags = {tag["Key"]: tag["Value"] for tag in (answer.get("Role") or answer["Policy"])["Tags"]}
                seen.ours[arn] = may_change(seen.settings, tags, arn)
            return answer
        self._check_write(call, arn, seen)
        answer = self.iam.answer(call.name, call.params, account_id)
        if call.name in {"CreateRole", "CreatePolicy"}:
            seen.ours[arn] = True
        return answer

    def _check_write(self, call: Call, arn: str, seen: Seen) -> None:
        """A role is changed only by who was answered that it is ours, and made only by who was answered that there is none.

        A policy is changed only by who was answered that it is ours, or where it was written by us as a shard.
        """
        if arn in self.unwritable or call.params.get("PolicyArn") in self.unwritable:
            self.pass_time(self.now + 10)
            raise refusal("AccessDenied", f"not authorized to perform: iam:{call.name} on resource: {arn}", 403)
        policy = self.iam.policy(arn)
        if ":policy/" in arn or arn in self.readers:
            self.require(
                f"publish alone writes the source policy, as in {call} by {seen.name}", seen.function == "publish"
            )
        if policy is not None and call.name != "CreatePolicy" and not may_change(seen.settings, dict(policy.tags), arn):
            written = "applied" in self.shards().get(arn.rpartition("/")[2], {})
            self.require(f"nothing that is not ours is changed, as by {call}", written or seen.ours.get(arn) is True)
        if ":role/" not in arn or arn in self.readers:
            return
        allowed = (None, True) if call.name == "CreateRole" else (True,)  # botocore may send it twice
        self.require(f"nothing that is not ours is changed, as by {call}", seen.ours.get(arn, False) in allowed)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Read the ledger, as plain values."""
        return {key: _plain(item) for key, item in self.tables.items.get("ledger", {}).items()}

    def revision(self, account_id: str) -> int:
        """Return how often enroll, retire and backfill have written an account's row."""
        revision = self.row(account_id).get("revision", 0)
        return revision if isinstance(revision, int) else 0

    def row(self, account_id: str) -> dict[str, Any]:
        """Read an account's row, or nothing where it has none."""
        return _plain(self.tables.items.get("ledger", {}).get(account_id, {}))

    def shards(self) -> dict[str, dict[str, Any]]:
        """Read publish's records of the shards, as plain values, with account ids as sets."""
        items = self.tables.items.get("source-policy", {})
        return {key: _record(_plain(item)) for key, item in items.items() if not key.startswith("#")}

    def control(self) -> dict[str, Any]:
        return _plain(self.tables.items.get("source-policy", {}).get("#control", {}))

    def status(self) -> dict[str, Any]:
        return _plain(self.tables.items.get("source-policy", {}).get("#status", {}))

    @property
    def scope(self) -> str | None:
        """The scope that the first shard is written in, or None before there is one."""
        first = self.shards().get(SOURCE_POLICY, {})
        written = first.get("applied") or first.get("applying")
        return written["scope"] if written else None

    @property
    def named(self) -> frozenset[str]:
        """The accounts that the shards' records name, those of unfinished writes included."""
        shards = self.shards().values()
        versions = [each[key] for each in shards for key in ("applied", "applying") if key in each]
        versions += [version for each in shards for version in each.get("unfinished", ())]
        return frozenset(account_id for version in versions for account_id in version["accounts"])

    def is_record(self, call: Call) -> bool:
        """Whether a call writes or deletes what publish records in the source-policy table; its lease is no record."""
        if call.name not in {"UpdateItem", "DeleteItem"} or call.params["TableName"] != "source-policy":
            return False
        is_lease = "#run_until" in call.params.get("ExpressionAttributeNames", {})
        return not is_lease and call.params["Key"]["policy_name"]["S"] != "#control"

    @property
    def is_uninstalling(self) -> bool:
        """Whether everything is being uninstalled, or has been."""
        control = self.control()
        return control.get("uninstalling") is True or control.get("uninstalled") is True

    def source_policies(self) -> dict[str, Any]:
        """Read the source policy's managed policies by name."""
        prefix = f"arn:aws:iam::{self.source_account}:policy/{SOURCE_POLICY}"
        return {arn.rpartition("/")[2]: held for arn, held in self.iam.everything().items() if arn.startswith(prefix)}


def reader(source_account: str = MANAGEMENT) -> str:
    return f"arn:aws:iam::{source_account}:role/Reader"


def may_change(settings: Settings | None, tags: dict[str, str], arn: str) -> bool:
    """Tell whether a role is ours by its tags, or may be taken over."""
    if settings is None:
        return True
    ownership = settings.ownership(arn, tags)
    return ownership.is_ours or (settings.adopt_existing_roles and not ownership.tags)


@dataclass(frozen=True)
class Grant:
    """What a shard's document grants: accounts by name, or an organization's but for some."""

    named: frozenset[str] = frozenset()
    organization: str | None = None
    but: frozenset[str] = frozenset()
    frozen: bool = False

    def grants(self, account_id: str, *, member: bool) -> bool:
        """Whether an account is granted, the freeze left aside; nothing reaches an account outside the organization."""
        if self.organization != ORGANIZATION_ID:
            return False
        return account_id in self.named if self.named else member and account_id not in self.but


@cache
def granted_by(document: str) -> Grant:
    """Read a shard's document, or one that was edited by hand."""
    statements = json.loads(document)["Statement"]
    allowed: dict[str, Any] = next((each for each in statements if each["Effect"] == "Allow"), {})
    pinned = allowed.get("Condition", {}).get("StringEquals", {})
    left_out = allowed.get("Condition", {}).get("StringNotEquals", {})
    return Grant(
        frozenset(pinned.get("aws:ResourceAccount", ())),
        pinned.get("aws:ResourceOrgID"),
        frozenset(left_out.get("aws:ResourceAccount", ())),
        any(each["Effect"] == "Deny" for each in statements),
    )


def _about(call: Call, account_id: str) -> str:
    if "RoleName" in call.params:
        return f"arn:aws:iam::{account_id}:role/{call.params['RoleName']}"
    if "PolicyArn" in call.params:
        return str(call.params["PolicyArn"])
    return f"arn:aws:iam::{account_id}:policy/{call.params.get('PolicyName', '')}"


def _record(plain: dict[str, Any]) -> dict[str, Any]:
    """Take apart the account ids, which are one text."""
    unfinished = plain.get("unfinished", [])
    for version in (plain.get("applied"), plain.get("applying"), *(unfinished if isinstance(unfinished, list) else ())):
        for name in ("accounts", "excluded") if isinstance(version, dict) else ():
            version[name] = set(filter(None, str(version.get(name, "")).split(",")))
    return plain


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in item.items() if "NULL" not in value}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return float(content) if "." in content else int(content)
        case "SS":
            return set(content)
        case "M":
            return _plain(content)
        case "L":
            return [_value(each) for each in content]
    return content
