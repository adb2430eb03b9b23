"""What happens around the processes: accounts change, operators act, policies are edited, items are lost."""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from tests.integration.protocol.world import FREEZE_SECONDS, Row

if TYPE_CHECKING:
    from tests.integration.protocol.model import ModelRun


class Feature(StrEnum):
    """What a seed may meet, besides accounts that become eligible or cease to be."""

    RETIRE = "accounts are retired by request, and readmitted"
    FREEZE = "the source policy is frozen and unfrozen"
    RESIZE = "more or fewer accounts fit into a shard"
    RESYNC = "all accounts are checked, and IAM is verified"
    FAILED_CHECK = "checks of accounts fail"
    BROKEN_SHARD = "IAM rejects the writes of a shard"
    EDIT = "the source policy is edited by hand"
    LOST_SHARD = "the record of a shard is lost"
    LOST_TABLE = "the whole source-policy table is lost"
    LOST_FLAG = "the freeze flag is lost"
    LOST_LEDGER = "the ledger is lost"
    KILL = "processes are killed"
    STALL = "processes pause, and calls are slow"
    FAULT = "calls fail, or their responses are lost"


LOSSES = frozenset({Feature.LOST_SHARD, Feature.LOST_TABLE, Feature.LOST_FLAG, Feature.LOST_LEDGER})


def choose_features(random: Random) -> frozenset[Feature]:
    """Return the features of a seed. Losses are rare, and never come with edits, which only a record can repair."""
    features = {feature for feature in Feature if random.random() < (0.15 if feature in LOSSES else 0.45)}
    if random.random() < 0.8:
        features.discard(Feature.EDIT)
    if Feature.EDIT in features:
        features -= LOSSES
    if features >= {Feature.LOST_LEDGER, Feature.LOST_TABLE}:  # without any row, a run considers the stage new
        features.discard(random.choice((Feature.LOST_LEDGER, Feature.LOST_TABLE)))
    return frozenset(features)


class Events:
    """The events that a seed may meet."""

    def __init__(self, run: "ModelRun") -> None:
        self._run, self._world = run, run.world
        self._random = run.world.random
        self._accounts = sorted(run.world.eligible)
        self._changing = self._accounts[0]
        self._freeze_requested_at = -FREEZE_SECONDS
        self.freeze_requested = False
        self.freeze_is_known = True

    def possible(self, features: frozenset[Feature]) -> list[Callable[[], None]]:
        """Return the events that come with features."""
        events = {
            Feature.RETIRE: self.retire,
            Feature.FREEZE: self.freeze,
            Feature.RESIZE: self.resize,
            Feature.RESYNC: self.resync,
            Feature.BROKEN_SHARD: self.break_shard,
            Feature.EDIT: self.edit,
            Feature.LOST_SHARD: self.lose_shard,
            Feature.LOST_TABLE: self.lose_table,
            Feature.LOST_FLAG: self.lose_flag,
            Feature.LOST_LEDGER: self.lose_ledger,
        }
        return [self.change, self.change, *(event for feature, event in events.items() if feature in features)]

    def change(self) -> None:
        """Change an account, often one that has just changed."""
        if self._random.random() < 0.5:
            self._changing = self._random.choice(self._accounts)
        account = self._changing
        self._world.eligible[account] = not self._world.eligible[account]
        self._send_changed(account)

    def _send_changed(self, account: str) -> None:
        if not self._world.should_grant(account):
            self._world.may_lose_access.add(account)
        self._world.send_account(account)

    def retire(self) -> None:
        account = self._random.choice(self._accounts)
        row = self._world.rows.get(account, Row())
        self._world.rows[account] = replace(row, revision=row.revision + 1, retired=not row.retired)
        self._send_changed(account)

    def freeze(self) -> None:
        frozen = self._random.random() < 0.6
        if frozen is not self._world.table.frozen:
            self._world.frozen_since = self._world.now if frozen else None
        self._world.table.frozen = self.freeze_requested = frozen
        self._freeze_requested_at = self._world.now
        self.freeze_is_known = True
        self._world.send_publish()
        if self._random.random() < 0.5:
            self._run.start_publish()

    def resize(self) -> None:
        self._world.capacity = self._random.randint(1, 4)
        self._world.send_publish()

    def break_shard(self) -> None:
        self._world.broken_shards.add(self._random.choice((0, 0, 1, 2)))

    def resync(self) -> None:
        self._world.table.verify_requested_at = self._world.now
        for account in self._accounts:
            self._world.send_account(account)
        self._world.send_publish()

    def edit(self) -> None:
        if not self._world.iam:
            return
        policy = self._world.iam[self._random.choice(sorted(self._world.iam))]
        account = self._random.choice(self._accounts)
        match self._random.choice(("account", "account", "freeze", "version")):
            case "account":
                edited = replace(policy.content, accounts=policy.content.accounts ^ {account})
                policy.edit(self._world.now, edited)
            case "freeze":
                policy.edit(self._world.now, replace(policy.content, frozen=not policy.content.frozen))
            case _:
                policy.add_stray_version()

    def lose_shard(self) -> None:
        if self._world.table.shards:
            del self._world.table.shards[self._random.choice(sorted(self._world.table.shards))]
            self._world.send_publish()

    def lose_table(self) -> None:
        """Lose all items, unless a run writes: its lease would be lost with them, and the next run would not wait for it."""
        if self._run.is_publishing or self._run.pending:
            return
        self._world.table.shards.clear()
        self._world.table.status = None
        self.lose_flag()

    def lose_flag(self) -> None:
        table = self._world.table
        contents = [policy.content for policy in self._world.iam.values()]
        contents += [content for record in table.shards.values() for content in record.possible]
        applied = {content.frozen for content in contents} or {False}
        settled = self._world.now > self._freeze_requested_at + FREEZE_SECONDS and not self._run.pending
        self.freeze_is_known &= settled and applied == {self.freeze_requested}
        table.frozen = self._world.frozen_since = None
        self._world.send_publish()

    def lose_ledger(self) -> None:
        """Lose all rows, unless enroll runs: a row that is written anew may have the revision that it has read."""
        if self._run.is_enrolling:
            return
        self._world.rows.clear()
        for account in self._accounts:
            self._world.send_account(account)
