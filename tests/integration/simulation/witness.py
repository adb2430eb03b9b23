"""What no single call may bring about, whatever came before it: access that ends or begins without a row that says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chalicelib.arns import is_account_id
from tests.integration.simulation.answers import Call

if TYPE_CHECKING:
    from tests.integration.simulation.cloud import Cloud, Seen

_ON_THE_SOURCE_POLICY = frozenset({"CreatePolicy", "CreatePolicyVersion", "DeletePolicy"})
NO_ACCOUNT = "000000000000"  # what a shard without accounts names
_DENIED = ("excluded", "none")


class Past:
    """Which value something has, and until when it had others."""

    def __init__(self) -> None:
        self.value: Any = None
        self._until: dict[Any, float] = {}

    def set(self, value: Any, now: float) -> None:
        if value != self.value:
            self._until[self.value] = now
            self.value = value

    def was(self, values: tuple[Any, ...], since: float) -> bool:
        """Whether it has had one of some values since then."""
        return self.value in values or any(self._until.get(value, -1.0) >= since for value in values)


class Witness:
    """Compares what there was before each call with what there is after it."""

    def __init__(self, cloud: "Cloud") -> None:
        self._cloud = cloud
        self._access: dict[str, Past] = {}
        self._frozen = Past()
        self._uninstalling = Past()
        self.publishing: dict[str, float] = {}  # runs of publish, by when each began
        self._rows: Any = None
        self._asked: Any = None

    def note(self) -> None:
        """Remember what rows and marks say now; whoever changes them by hand calls this, too."""
        cloud, now = self._cloud, self._cloud.now
        rows = cloud.tables.items.get("ledger", {})
        for account_id in self._access.keys() | rows.keys():
            self._of(account_id).set(rows.get(account_id, {}).get("access", {}).get("S"), now)
        control = cloud.control()
        self._frozen.set(control.get("frozen"), now)
        self._uninstalling.set(cloud.is_uninstalling, now)

    def _of(self, account_id: str) -> Past:
        return self._access.setdefault(account_id, Past())

    @contextmanager
    def watching(self, call: Call, seen: "Seen") -> Iterator[None]:
        """Check one call, which may be one of an invocation that was killed a moment ago."""
        if seen.function == "publish" and (self._cloud.is_record(call) or self._is_iam_write(call)):
            status = self._cloud.status()
            # The lease goes with the status, which may be deleted twice.
            kept = status.get("run_owner") == seen.name or (call.name == "DeleteItem" and not status)
            self._cloud.require(f"only the run that holds the lease writes, and not {seen.name}", kept)
        if call.name in _ON_THE_SOURCE_POLICY:
            before = self._state()
            yield
            self._check(before, self._state(), seen)
            return
        if seen.function == "enroll" and call.name == "UpdateItem":
            account_id = call.params["Key"]["account_id"]["S"]
            revision = self._cloud.revision(account_id)
            yield
            self.note()
            self._check_row(account_id, revision, seen)
            return
        if call.name == "DeleteRole":
            self._check_role(self._cloud.account_of(call), seen)
        retired = self._retired() if self._is_of_the_ledger(call) else frozenset()
        yield
        if seen.function == "enroll" and call.name == "BatchGetItem":
            keys = call.params["RequestItems"]["ledger"]["Keys"]
            seen.revisions |= {key["account_id"]["S"]: self._cloud.revision(key["account_id"]["S"]) for key in keys}
        if call.service == "dynamodb" and call.name in {"UpdateItem", "DeleteItem"}:
            self.note()
        if retired and seen.function != "backfill":
            forgotten = sorted(retired - self._retired())
            self._cloud.require(
                f"only an account that is named in a backfill is retired no more, as {forgotten} by {seen.name}",
                not forgotten,
            )

    def _is_iam_write(self, call: Call) -> bool:
        return call.service == "iam" and not call.name.startswith(("Get", "List"))

    def _check_row(self, account_id: str, before: int, seen: "Seen") -> None:
        rule = f"a row is written only over the row that was read, as of {account_id} by {seen.name}"
        self._cloud.require(rule, before == seen.revisions.get(account_id, 0))

    def _is_of_the_ledger(self, call: Call) -> bool:
        return call.name == "UpdateItem" and call.params["TableName"] == "ledger"

    def _retired(self) -> frozenset[str]:
        rows = self._cloud.tables.items.get("ledger", {})
        return frozenset(each for each, row in rows.items() if "retirement_requested_at" in row)

    def _state(self) -> tuple[list[Any], dict[str, Any]]:
        policies = self._cloud.source_policies()
        return self._cloud.granted(), {name: '"Deny"' in policy.document for name, policy in policies.items()}

    def _check(self, before: Any, after: Any, seen: "Seen") -> None:
        cloud = self._cloud
        members = cloud.members.members
        ids = {each for grants in (before[0], after[0]) for grant in grants for each in (*grant.named, *grant.but)}
        for account_id in filter(is_account_id, {*ids, *members, *self._access} - {NO_ACCOUNT}):
            member = account_id in members
            had, has = (any(each.grants(account_id, member=member) for each in state[0]) for state in (before, after))
            if had is not has:
                grants = after[0] if has else before[0]
                self._check_access(account_id, seen, has=has, named=any(account_id in each.named for each in grants))
        for name, was_frozen in before[1].items():
            thawed = was_frozen and after[1].get(name) is False
            asked = self._frozen.was((False,), seen.since) or self._uninstalling.was((True,), seen.since)
            cloud.require(f"frozen stays frozen, as {name} doesn't by {seen.name}", not thawed or asked)
        for name, is_frozen in after[1].items():
            made = name not in before[1] and not is_frozen
            asked_for = self._frozen.was((False, None), seen.since)
            cloud.require(
                f"what is made while all is frozen is frozen, as {name} by {seen.name}", not made or asked_for
            )

    def _check_access(self, account_id: str, seen: "Seen", *, has: bool, named: bool) -> None:
        """Whether a change follows a row that said so at some time since the run began."""
        past = self._of(account_id)
        if has:
            # Scope organization leaves out the excluded alone.
            said = past.was(("granted", None), seen.since) or (past.value == "none" and not named)
            rule = f"access is opened to no account whose row denies it, as to {account_id} by {seen.name}"
        else:
            said = past.was(_DENIED, seen.since) or self._uninstalling.was((True,), seen.since)
            # Scope organization grants accounts that were never enrolled, and none that is no member.
            said = said or (past.value is None and (not named or account_id not in self._cloud.members.members))
            # The settings' accounts are left out of the organization's statement before their rows say so.
            said = said or (not named and seen.settings is not None and account_id in seen.settings.exclude_account_ids)
            rule = f"no account loses access without a row that says so, as {account_id} by {seen.name}"
        self._cloud.require(rule, said)

    def _check_role(self, account_id: str, seen: "Seen") -> None:
        """A role goes only while nothing grants the account; a run of publish that read an older row may be at it still."""
        granted = self._cloud.grants(account_id) or account_id in self._cloud.named
        since = min([self._cloud.now, *self.publishing.values()])
        past = self._of(account_id)
        raced = past.was(_DENIED, seen.since) and past.was(("granted", None), min(since, seen.since))
        rule = f"a role is deleted only while nothing grants its account, as {account_id} by {seen.name}"
        self._cloud.require(rule, not granted or raced)
