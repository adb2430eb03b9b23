"""Invariants that hold at every single call, such as: no access begins or ends without a row that allows it."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chalicelib.arns import is_account_id
from tests.integration.simulation.calls import Call, Caller
from tests.integration.simulation.grants import Grant
from tests.integration.simulation.iam import may_change
from tests.integration.simulation.tables import Item, plain

if TYPE_CHECKING:
    from tests.integration.simulation.cloud import Cloud

NO_ACCOUNT = "000000000000"  # named by a shard without accounts
_DENIED = ("excluded", "none")
_BOOKKEEPING = {
    "ledger": {"revision", "updated_at", "trigger", "attempts", "failed_at"},
    "#control": {"check_requested_at", "verify_requested_at"},
    "#status": {"run_owner", "run_until", "looked_at", "checked_at", "verified_at", "repairs"},
    "shard": {"verified_at"},
}
"""The attributes that a pass over a converged organization may write."""


class History:
    """A value, and until when it had each other value."""

    def __init__(self) -> None:
        self.value: Any = None
        self._until: dict[Any, float] = {}

    def set(self, value: Any, now: float) -> None:
        if value != self.value:
            self._until[self.value] = now
            self.value = value

    def had(self, values: tuple[Any, ...], since: float) -> bool:
        """Whether it had one of the values at any time since."""
        return self.value in values or any(self._until.get(value, -1.0) >= since for value in values)


class CallChecks:
    """Compares the state before each call with the state after it."""

    def __init__(self, cloud: "Cloud") -> None:
        self._cloud = cloud
        self._access: defaultdict[str, History] = defaultdict(History)
        self._frozen = History()
        self._uninstalling = History()
        self.publishing: dict[str, float] = {}  # the runs of publish, and when each began
        self.is_converged = False  # then calls may write nothing but bookkeeping

    def note(self, *account_ids: str) -> None:
        """Note the current flags and some rows, or all rows. To be called after an edit of the tables, too."""
        cloud, now = self._cloud, self._cloud.now
        rows = cloud.tables.items.get("ledger", {})
        for account_id in account_ids or self._access.keys() | rows.keys():
            self._access[account_id].set(rows.get(account_id, {}).get("access", {}).get("S"), now)
            cloud.stream.note(account_id, rows.get(account_id), now)
        self._frozen.set(cloud.control().get("frozen"), now)
        self._uninstalling.set(cloud.is_uninstalling, now)

    @contextmanager
    def watching(self, call: Call, caller: Caller) -> Iterator[None]:
        """Check one call, which an invocation that was killed since may have made."""
        cloud = self._cloud
        if caller.function == "publish" and (call.writes_record or call.is_iam_write):
            status = cloud.status()
            # The lease is deleted with the status, maybe by a repeated call.
            owns = status.get("run_owner") == caller.name or (call.name == "DeleteItem" and not status)
            cloud.require(f"only the run that holds the lease writes, and not {caller.name}", owns)
        is_update = call.name in {"UpdateItem", "DeleteItem"}
        before = cloud.tables.item(call.params) if is_update else {}
        if call.name == "DeleteRole":
            self._check_role(cloud.account_of(call), caller)
        if call.name in {"CreatePolicy", "CreatePolicyVersion", "DeletePolicy"}:
            grants, frozen = cloud.all_grants(), self._frozen_shards()
            yield
            self._check_grants(grants, cloud.all_grants(), caller)
            self._check_freeze(frozen, self._frozen_shards(), caller)
        else:
            yield
        if is_update:
            self.note(*(value["S"] for name, value in call.params["Key"].items() if name == "account_id"))
            if call.params["TableName"] == "ledger":
                self._check_row(before, call, caller)
        elif caller.function == "enroll" and call.name == "BatchGetItem":
            rows = cloud.tables.items["ledger"]
            ids = [key["account_id"]["S"] for key in call.params["RequestItems"]["ledger"]["Keys"]]
            caller.revisions |= {account_id: _revision(rows.get(account_id, {})) for account_id in ids}
        if self.is_converged and not call.is_read and call.service != "sqs":
            self._check_converged(before, call)

    def _check_row(self, before: Item, call: Call, caller: Caller) -> None:
        account_id = call.params["Key"]["account_id"]["S"]
        if caller.function == "enroll":
            invariant = f"a row is written only over the row that was read, as of {account_id} by {caller.name}"
            self._cloud.require(invariant, _revision(before) == caller.revisions.get(account_id, 0))
        after = self._cloud.tables.item(call.params)
        lifted = "retirement_requested_at" in before and "retirement_requested_at" not in after
        invariant = f"only a backfill that names an account lifts its retirement, as of {account_id} by {caller.name}"
        self._cloud.require(invariant, not lifted or caller.function == "backfill")

    def _check_converged(self, before: Item, call: Call) -> None:
        changed: set[str] = set()
        bookkeeping: set[str] = set()
        if call.service == "dynamodb":
            after = self._cloud.tables.item(call.params)
            changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            ((_, key),) = call.params["Key"].items()
            table = call.params["TableName"]
            bookkeeping = _BOOKKEEPING[table if table == "ledger" else key["S"] if key["S"][0] == "#" else "shard"]
        invariant = f"a pass over a converged organization writes nothing, and not {call} {sorted(changed)}"
        self._cloud.require(invariant, call.service == "dynamodb" and changed <= bookkeeping)

    def check_ownership(self, call: Call, arn: str, caller: Caller) -> None:
        """Require that the caller has read that a role or policy is this stage's before it changes it.

        A role may be created only after a read that found none. A policy may also be changed if its shard has a record.
        """
        cloud = self._cloud
        of_source_policy = ":policy/" in arn or arn in cloud.source_principals
        if of_source_policy:
            invariant = f"publish alone writes the source policy, as in {call} by {caller.name}"
            cloud.require(invariant, caller.function == "publish")
        invariant = f"nothing that is not ours is changed, as by {call}"
        owned = caller.owned.get(arn, False)
        policy = cloud.iam.policy(arn)
        if (
            policy is not None
            and call.name != "CreatePolicy"
            and not may_change(caller.settings, dict(policy.tags), arn)
        ):
            cloud.require(invariant, owned is True or "applied" in cloud.shards().get(arn.rpartition("/")[2], {}))
        if not of_source_policy:
            allowed = (None, True) if call.name == "CreateRole" else (True,)  # botocore may send CreateRole twice
            cloud.require(invariant, owned in allowed)

    def _frozen_shards(self) -> dict[str, bool]:
        return {name: policy.is_frozen for name, policy in self._cloud.source_policies().items()}

    def _check_freeze(self, before: dict[str, bool], after: dict[str, bool], caller: Caller) -> None:
        require = self._cloud.require
        uninstalling = self._uninstalling.had((True,), caller.since)
        for name, was_frozen in before.items():
            thawed = was_frozen and after.get(name) is False
            requested = self._frozen.had((False,), caller.since) or uninstalling
            require(f"frozen stays frozen, as {name} doesn't by {caller.name}", not thawed or requested)
        for name, is_frozen in after.items():
            is_new = name not in before and not is_frozen
            requested = self._frozen.had((False, None), caller.since)
            require(f"a shard created during a freeze is frozen, as {name} by {caller.name}", not is_new or requested)

    def _check_grants(self, before: list[Grant], after: list[Grant], caller: Caller) -> None:
        members = self._cloud.members.members
        had, has = ({each for grant in grants for each in grant.granted(members)} for grants in (before, after))
        for account_id in filter(is_account_id, had ^ has - {NO_ACCOUNT}):
            is_granted = account_id in has
            if account_id not in members and not all(each.named for each in after):
                continue  # aws:ResourceOrgID denied a former member before the scope became the organization, too
            if is_granted and all(each.frozen for each in after if account_id in each.granted(members)):
                continue  # the freeze denies it until a run that has read the rows lifts the freeze
            named = any(account_id in each.named for each in (after if is_granted else before))
            self._check_access(account_id, caller, has=is_granted, named=named)

    def _check_access(self, account_id: str, caller: Caller, *, has: bool, named: bool) -> None:
        """Require that a row allowed the change at some time since the caller began."""
        history = self._access[account_id]
        if has:
            # Scope organization leaves out excluded accounts only.
            allowed = history.had(("granted", None), caller.since) or (history.value == "none" and not named)
            invariant = f"access is opened to no account whose row denies it, as to {account_id} by {caller.name}"
        else:
            is_member = account_id in self._cloud.members.members
            excluded = () if named or caller.settings is None else caller.settings.exclude_account_ids
            allowed = (
                history.had(_DENIED, caller.since)
                or self._uninstalling.had((True,), caller.since)
                # Scope organization grants accounts without a row, but no former member.
                or (history.value is None and (not named or not is_member))
                # Scope organization excludes the accounts in the settings before their rows do.
                or account_id in excluded
            )
            invariant = f"no account loses access without a row that denies it, as {account_id} by {caller.name}"
        self._cloud.require(invariant, allowed)

    def _check_role(self, account_id: str, caller: Caller) -> None:
        """Require that nothing grants an account whose role is deleted, unless a run of publish that read an older row does."""
        granted = self._cloud.grants(account_id) or account_id in self._cloud.named
        since = min([self._cloud.now, caller.since, *self.publishing.values()])
        history = self._access[account_id]
        raced = history.had(_DENIED, caller.since) and history.had(("granted", None), since)
        invariant = f"a role is deleted only while nothing grants its account, as {account_id} by {caller.name}"
        self._cloud.require(invariant, not granted or raced)


def _revision(row: Item) -> int:
    revision = plain(row).get("revision", 0)
    return revision if isinstance(revision, int) else 0
