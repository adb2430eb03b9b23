"""AWS in memory: IAM of several accounts, Organizations, STS, DynamoDB and SQS at one virtual time, with checks of every call."""

from datetime import UTC, datetime
from typing import Any

from tests.integration.simulation.call_checks import CallChecks
from tests.integration.simulation.calls import Call, Caller, InvariantError, client_error
from tests.integration.simulation.grants import Grant, grant_of
from tests.integration.simulation.iam import Iam, Policy, Role, account_of, may_change
from tests.integration.simulation.ledger_stream import Bus, LedgerStream
from tests.integration.simulation.members import MANAGEMENT, Members
from tests.integration.simulation.queues import Queues
from tests.integration.simulation.tables import Tables, plain

SOURCE_POLICY = "CrossAccountReadOnlyAccess"
ACCESS_ROLE = "OrganizationAccountAccessRole"
SOURCE = "888888888888"  # a member account that may contain the source principals
START = 1_800_000_000.0
OWN_KEY = "AKIAROLECALLXXXXXXXX"
LOSSES = ("ledger lost", "shard record lost", "source-policy table lost", "both tables lost")
_SESSION_SECONDS = 900.0


class Cloud:
    """The state of AWS. Once an invariant is violated, every later call fails."""

    def __init__(self, source_account: str = MANAGEMENT) -> None:
        self.source_account, self.source_principal = source_account, source_principal(source_account)
        self.source_principals = {self.source_principal}  # and those of other settings
        self.members, self.iam, self.tables, self.queues = Members(), Iam(), Tables(), Queues()
        self.stream, self.bus = LedgerStream(), Bus()
        self.sessions: dict[str, tuple[str, float]] = {}  # the account and end of each access key
        self.denied: dict[str, str] = {}  # accounts whose access role can't be assumed, with the error's text
        self.unwritable: set[str] = set()  # policies whose writes IAM denies
        self.orphaned: frozenset[str] = frozenset()  # accounts that only the source policy grants
        self.other_policies: frozenset[str] = frozenset()  # attached to the source principal by others
        self.edited_at = 0.0  # when others last changed the source policy
        self.staleness = 0.0  # seconds by which IAM's reads of policies are late
        self.violated: str | None = None
        self.checks = CallChecks(self)
        self.pass_time(START - 86_400)
        for account_id in dict.fromkeys((MANAGEMENT, source_account)):
            self.join(account_id)
        self.iam.put(self.source_principal, Role(self.source_principal))
        self.pass_time(START)

    @property
    def now(self) -> float:
        return self.iam.now

    def pass_time(self, until: float) -> None:
        self.iam.now = self.members.now = until
        self.queues.pass_time(until)

    def require(self, invariant: str, holds: bool) -> None:
        if not holds:
            self.violated = invariant
            raise InvariantError(invariant)

    def join(
        self, account_id: str, unit: str | None = None, env: str | None = None, *, access_role: bool = True
    ) -> None:
        self.members.join(account_id, unit, env)
        if access_role and account_id != MANAGEMENT:
            arn = access_role_arn(account_id)
            self.iam.put(arn, Role(arn))

    def lose(self, loss: str, shard: str = SOURCE_POLICY) -> None:
        tables = self.tables.items
        if loss in {"ledger lost", "both tables lost"}:
            tables["ledger"] = {}
        if loss in {"source-policy table lost", "both tables lost"}:
            tables["source-policy"] = {}
        if loss == "shard record lost":
            tables.get("source-policy", {}).pop(shard, None)
        self.checks.note()

    def can_enter(self, account_id: str) -> bool:
        """Whether an account can be entered."""
        if account_id == MANAGEMENT:
            return True
        is_allowed = self.is_open(account_id) and account_id not in self.denied
        return is_allowed and self.iam.role(access_role_arn(account_id)) is not None

    def is_open(self, account_id: str) -> bool:
        """Whether the roles of a member work: also while it is being closed ("Close an account" in the AWS guide)."""
        member = self.members.members.get(account_id)
        return member is not None and member.state in {"ACTIVE", "PENDING_CLOSURE"}

    def is_active(self, account_id: str) -> bool:
        """Whether an account is a member that is neither closed nor suspended."""
        member = self.members.members.get(account_id)
        return member is not None and member.state == "ACTIVE"

    # Calls.

    def answer(self, call: Call, caller: Caller) -> dict[str, Any]:
        """Return the response to a call, after checking what it changes."""
        if self.violated is not None:
            raise InvariantError(self.violated)
        with self.checks.watching(call, caller):
            return self._answer(call, caller)

    def _answer(self, call: Call, caller: Caller) -> dict[str, Any]:
        match call.service:
            case "dynamodb":
                return self.tables.answer(call.name, call.params)
            case "events":
                return self.bus.answer(call)
            case "sqs":
                return self.queues.answer(call.name, call.params)
            case "organizations" | "resourcegroupstaggingapi":
                return self.members.answer(call.name, call.params)
            case "sts":
                return self._assume(call.params["RoleArn"])
            case "iam":
                return self._answer_iam(call, self.account_of(call), caller)
            case "cloudformation":
                name = call.params["PhysicalResourceId"]
                return self.iam.find_stack(f"arn:aws:iam::{self.account_of(call)}:role/{name}")
        raise NotImplementedError(call.operation)

    def account_of(self, call: Call) -> str:
        """Return the account that a call is made in."""
        if call.service == "sts":
            return account_of(call.params["RoleArn"])
        in_account = call.service in {"iam", "cloudformation"}
        return self.sessions.get(call.access_key, (MANAGEMENT, 0.0))[0] if in_account else MANAGEMENT

    def _assume(self, arn: str) -> dict[str, Any]:
        account_id = account_of(arn)
        self.require("no account is entered that Organizations never confirmed", account_id in self.members.confirmed)
        if self.iam.role(arn) is None or not self.can_enter(account_id):
            why = self.denied.get(account_id, "")
            message = f"not authorized to perform: sts:AssumeRole on resource: {arn} {why}"
            raise client_error("AccessDenied", message, 403)
        key, until = f"ASIA{len(self.sessions):016}", self.now + _SESSION_SECONDS
        self.sessions[key] = (account_id, until)
        expiration = datetime.fromtimestamp(until, UTC)
        keys = {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration}
        return {"Credentials": keys}

    def _answer_iam(self, call: Call, account_id: str, caller: Caller) -> dict[str, Any]:
        if call.access_key in self.sessions and self.sessions[call.access_key][1] < self.now:
            raise client_error("ExpiredToken", "The security token included in the request is expired", 403)
        arn = _resource(call, account_id)
        denied = f"not authorized to perform: iam:{call.name} on resource: {arn}"
        if account_of(arn) != account_id:
            raise client_error("AccessDenied", denied, 403)
        if call.is_read:
            return self._read_iam(call, account_id, arn, caller)
        if arn in self.unwritable or call.params.get("PolicyArn") in self.unwritable:
            self.pass_time(self.now + 10)
            raise client_error("AccessDenied", denied, 403)
        self.checks.check_ownership(call, arn, caller)
        response = self.iam.answer(call.name, call.params, account_id)
        if call.name in {"CreateRole", "CreatePolicy"}:
            caller.owned[arn] = True
        return response

    def _read_iam(self, call: Call, account_id: str, arn: str, caller: Caller) -> dict[str, Any]:
        """Answer a read, and keep whether the caller may change the role or policy."""
        shows_tags = call.name in {"GetRole", "GetPolicy"}
        if shows_tags:
            caller.owned[arn] = None
        if self.staleness and ":policy/" in arn:
            self.iam.read_at = self.now - self.staleness
        try:
            response = self.iam.answer(call.name, call.params, account_id)
        finally:
            if self.staleness:
                self.iam.read_at = None
        if shows_tags:
            tags = {tag["Key"]: tag["Value"] for tag in (response.get("Role") or response["Policy"])["Tags"]}
            role = self.iam.role(arn)
            caller.owned[arn] = may_change(caller.settings, tags, arn, role.stack if role else None)
        return response

    # State.

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the ledger's rows by account."""
        return {key: plain(item) for key, item in self.tables.items.get("ledger", {}).items()}

    def row(self, account_id: str) -> dict[str, Any]:
        """Return an account's row, or an empty one."""
        return self._item("ledger", account_id)

    def shards(self) -> dict[str, dict[str, Any]]:
        """Return the shards' records, with account ids as sets."""
        items = self.tables.items.get("source-policy", {})
        return {key: _record(plain(item)) for key, item in items.items() if not key.startswith("#")}

    def control(self) -> dict[str, Any]:
        return self._item("source-policy", "#control")

    def status(self) -> dict[str, Any]:
        return self._item("source-policy", "#status")

    def _item(self, table: str, key: str) -> dict[str, Any]:
        return plain(self.tables.items.get(table, {}).get(key, {}))

    @property
    def scope(self) -> str | None:
        """The scope of the first shard, or None without one."""
        first = self.shards().get(SOURCE_POLICY, {})
        version = first.get("applied") or first.get("applying")
        return version["scope"] if version else None

    @property
    def named(self) -> frozenset[str]:
        """The accounts that the shards' records name, including those of unfinished writes."""
        shards = self.shards().values()
        versions = [each[key] for each in shards for key in ("applied", "applying") if key in each]
        versions += [version for each in shards for version in each.get("unfinished", ())]
        return frozenset(account_id for version in versions for account_id in version["accounts"])

    @property
    def is_uninstalling(self) -> bool:
        """Whether an uninstall is in progress or finished."""
        control = self.control()
        return control.get("uninstalling") is True or control.get("uninstalled") is True

    def source_policies(self) -> dict[str, Policy]:
        """Return the shards in IAM by name."""
        prefix = f"arn:aws:iam::{self.source_account}:policy/{SOURCE_POLICY}"
        policies = [each for each in self.iam.everything() if isinstance(each, Policy)]
        return {each.arn.rpartition("/")[2]: each for each in policies if each.arn.startswith(prefix)}

    def grants(self, account_id: str) -> bool:
        """Whether the source policy grants an account, apart from a freeze."""
        return account_id in self.granted()

    def granted(self) -> frozenset[str]:
        """Return the accounts that the source policy grants."""
        return frozenset[str]().union(*(grant.granted(self.members.members) for grant in self.all_grants()))

    def check_freeze(self, response: dict[str, Any]) -> None:
        """Require that a freeze that is in force leaves the source principals no member role to assume."""
        if not (response["frozen"] and response["in_force"]):
            return
        policies = self.source_policies().values()
        for principal in self.source_principals:
            attached = [policy for policy in policies if principal in policy.attached]
            granted = any(grant_of(policy.document).granted(self.members.members) for policy in attached)
            denied = any(policy.is_frozen for policy in attached)
            self.require(f"a freeze in force leaves {principal} no role to assume", denied or not granted)

    def all_grants(self) -> list[Grant]:
        """Return what each shard in IAM grants."""
        return [grant_of(policy.document) for policy in self.source_policies().values()]


def source_principal(source_account: str = MANAGEMENT) -> str:
    return f"arn:aws:iam::{source_account}:role/Reader"


def access_role_arn(account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}"


def _resource(call: Call, account_id: str) -> str:
    if "RoleName" in call.params:
        return f"arn:aws:iam::{account_id}:role/{call.params['RoleName']}"
    if "PolicyArn" in call.params:
        return str(call.params["PolicyArn"])
    return f"arn:aws:iam::{account_id}:policy/{call.params.get('PolicyName', '')}"


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """Replace the text of account ids in each version by a set."""
    unfinished = record.get("unfinished", [])
    others = unfinished if isinstance(unfinished, list) else ()
    for version in (record.get("applied"), record.get("applying"), *others):
        for name in ("accounts", "excluded") if isinstance(version, dict) else ():
            version[name] = set(filter(None, str(version.get(name, "")).split(",")))
    return record
