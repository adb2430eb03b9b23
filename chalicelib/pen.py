"""One pen: many workers place accounts in the source policy, and one at a time writes it to IAM.

What the shards should name is in the table, changed by one transaction a batch. Whoever holds the lease writes every shard that
IAM is behind on, looks again, and lets go only when none is. A message is finished only when the shard that names (or no
longer names) its account is written, so a crash anywhere leaves the message in the queue and the same road again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, Reason, RequestError, RetryableError, TerminalError
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import (
    MOST_SHARDS,
    Move,
    Moves,
    Shard,
    accounts_named,
    believed_policy,
    capacity,
    desired_policy,
    form,
    is_behind,
    is_frozen,
    place,
    place_all_that_fit,
    plan,
    shard_name,
    shards_of,
)

if TYPE_CHECKING:
    from chalicelib.aws.shards import ShardTable, Snapshot
    from chalicelib.aws.source_policies import SourcePolicies

LEASE_MARGIN = 60.0
"""Seconds by which the lease outlasts its holder's function, for a call under way and clocks that differ."""

_PATIENCE = 5.0  # seconds that a batch waits for another's pen before it hands its messages back
_PAUSE = 0.2
_LONG_PATIENCE = 120.0  # for a repair, which comes once a day, while the workers that its resync woke may be writing
_LONG_PAUSE = 1.0
_RESERVE = 30.0  # seconds before the function is stopped in which no write is begun: they are the ledger's
_PLACEMENTS = 20


@dataclass(frozen=True, slots=True)
class Settled:
    """Which shard names each account that was to join, what kept a shard from being written, and the excluded from being placed."""

    shards: Mapping[AccountId, str]
    errors: Mapping[str, AccountError]
    refused: AccountError | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which shard has a place already for each candidate that has one, and why no newcomer can have one.

    `held_back` are the moves of others that the refusal keeps from being made, too. `let_in` are the candidates that the source
    policy lets one in to as it is, `stopped` tells that everything is being uninstalled: every account leaves; and `seen` is
    what all this was found in.
    """

    placed: Mapping[AccountId, str]
    refusal: AccountError | None
    held_back: frozenset[Move] = frozenset()
    stopped: bool = False
    let_in: frozenset[AccountId] = frozenset()
    seen: "Snapshot | None" = None


class Pen:
    """Places accounts in shards and writes the shards, one writer at a time."""

    def __init__(
        self,
        settings: Settings,
        table: "ShardTable",
        policies: "SourcePolicies",
        organization_id: Callable[[], str],
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        """Take the table, IAM in the source account, and a clock in seconds since the epoch."""
        self._settings = settings
        self._table = table
        self._policies = policies
        self._ask_organization_id = organization_id
        self._clock = clock
        self._pause = pause

    def prepare(self, candidates: frozenset[AccountId]) -> Readiness:
        """Find out, before anything is written, whether newcomers among the candidates could be named.

        Where a first or further shard would be opened, the policies of such names that IAM holds already are refused, or what
        they name is taken in first, so that no access is lost.
        """
        for _ in range(_PLACEMENTS):
            snapshot = self._table.load()
            if snapshot.stopped:
                return Readiness({}, None, stopped=True)
            placed = shards_of(snapshot.shards, candidates)
            let_in = frozenset(filter(snapshot.lets_in, candidates))
            ready = Readiness(placed, None, let_in=let_in, seen=snapshot)
            try:
                if not self._opens_a_shard(snapshot, candidates) or self._take_in(snapshot):
                    return ready
            except AccountError as error:
                return replace(ready, refusal=error, held_back=_held_back(snapshot, error))
        return replace(ready, refusal=_overtaken(), held_back=frozenset(Move) - {Move.STAY})

    def foresee(self, candidates: frozenset[AccountId]) -> Readiness:
        """Find out the same, writing nothing at all."""
        snapshot = self._table.load()
        try:
            if self._opens_a_shard(snapshot, candidates):
                self._held(snapshot)
        except AccountError as error:
            return Readiness(shards_of(snapshot.shards, candidates), error)
        return Readiness(shards_of(snapshot.shards, candidates), None)

    def _opens_a_shard(self, snapshot: "Snapshot", candidates: frozenset[AccountId]) -> bool:
        """Tell whether candidates need another shard; an AccountError tells that they can't be named."""
        wanted = place(snapshot.shards, Moves(join=candidates), snapshot.in_force(self._settings))
        principals = {principal.arn for principal in self._settings.attachable_principals}
        opening = len(wanted) > len(snapshot.shards)
        if opening or any(principals - shard.attached for shard in snapshot.shards):
            self._policies.check_principals(len(wanted))
        return opening

    def _take_in(self, snapshot: "Snapshot") -> bool:
        """Place what the policies of the next names let one in to already; they become shards, even where they stay empty.

        True tells that there is nothing of the kind. Else the snapshot is outdated: by this, or by another's placement, after
        which such a policy may be a shard, of which IAM tells an older truth.
        """
        found, named = self._held(snapshot)
        if not found:
            return True
        joining = _not_left_out(snapshot, named)
        wanted = place((*snapshot.shards, *found), Moves(join=joining), snapshot.in_force(self._settings))
        self._table.place(snapshot, [shard for shard in wanted if shard not in snapshot.shards])
        return False

    def _held(self, snapshot: "Snapshot") -> tuple[list[Shard], frozenset[AccountId]]:
        """Find what IAM holds already under the next names, and which accounts that lets one in to; a TerminalError refuses it."""
        found: list[Shard] = []
        named: set[AccountId] = set()
        while existing := self._policies.find(name := shard_name(self._settings, len(snapshot.shards) + len(found))):
            try:
                named |= accounts_named(existing.document, self._settings)
            except ValueError as error:
                if not existing.ours:
                    message = f"the policy {name} can't be taken over, since {error}: delete it, or set another SourcePolicyName"
                    raise TerminalError(Reason.FOREIGN_SOURCE_POLICY, message) from None
            # A frozen policy stays so, whoever reads it in.
            first = not snapshot.shards and not found
            found.append(Shard(name=name, version=1, frozen=first and is_frozen(existing.document)))
        return found, frozenset(named)

    def settle(self, moves: Moves, *, owner: str, deadline: float, seen: "Snapshot | None" = None) -> Settled:
        """Place a batch's accounts and see to it that the shards are written; `deadline` is when the function is stopped.

        Where nobody placed since a snapshot, that is as good as one of this moment.
        """
        target, refused = self._place(moves, seen)
        errors: dict[str, AccountError] = {}
        last_write = deadline - _RESERVE
        patience = min(self._clock() + _PATIENCE, last_write)
        current = target
        while pending := [shard for shard in self._pending(current, target) if shard.name not in errors]:
            now = self._clock()
            if now < last_write and self._table.take_pen(owner, now=now, until=deadline + LEASE_MARGIN):
                try:
                    unwritten, current = self._write_all(last_write)
                finally:
                    self._table.let_go(owner)
                errors |= unwritten
                continue
            if now < patience:
                self._pause(_PAUSE)
            else:
                errors |= {shard.name: _still_pending(shard) for shard in pending}
            current = self._table.load()
        named = shards_of(current.shards, moves.join)
        if current.names_everyone:
            named = dict.fromkeys(moves.join, self._settings.source_policy_name)
        return Settled(named, errors, refused)

    def follow_scope(
        self, enrolled: Callable[[], frozenset[AccountId]], *, owner: str, deadline: float
    ) -> Mapping[str, AccountError]:
        """Change the scope that the shards are written in to what the settings ask for; an AccountError refuses it.

        Before the first shard names accounts only, all who are enrolled are named, and every further shard is written, so that
        nobody loses access. Until then everything goes on in the scope that is in force. What kept a shard from being written
        is told; another resync goes on from there.
        """
        for _ in range(_PLACEMENTS):
            snapshot = self._table.load()
            if snapshot.scope is self._settings.source_policy_scope or snapshot.stopped:
                return {}
            wanted = replace(snapshot, scope=self._settings.source_policy_scope)
            joining: frozenset[AccountId] = frozenset()
            if not wanted.names_everyone:
                joining = _not_left_out(snapshot, enrolled())
            if self._opens_a_shard(wanted, joining) and not self._take_in(snapshot):
                continue
            shards = place(snapshot.shards, Moves(join=joining), self._settings)
            if len(shards) > MOST_SHARDS:
                message = f"{len(joining)} accounts need {len(shards)} shards, more than can be attached: set SourcePolicyScope=organization again"
                raise TerminalError(Reason.QUOTA, message)
            if shards != snapshot.shards:
                self._table.place(snapshot, [shard for shard in shards if shard not in snapshot.shards])
                continue
            errors = self.settle(Moves(), owner=owner, deadline=deadline).errors
            if errors:
                return errors
            if self._table.place(wanted, ()):
                return self.settle(Moves(), owner=owner, deadline=deadline).errors
        raise _overtaken()

    def freeze(self, *, frozen: bool, owner: str, deadline: float) -> Mapping[str, AccountError]:
        """Deny everything, or no longer; a RequestError where the denial would be attached to nothing."""
        for _ in range(_PLACEMENTS):
            snapshot = self._table.load()
            first = next(iter(snapshot.shards), None)
            if first is None or (self._settings.attachable_principals and not first.attached):
                raise RequestError(
                    "the source policy is attached to nothing yet, so freezing it would deny nobody anything"
                )
            if first.frozen == frozen or self._table.place(
                snapshot, [replace(first, frozen=frozen, version=first.version + 1)]
            ):
                return self.settle(Moves(), owner=owner, deadline=deadline).errors
        raise RetryableError(Reason.SOURCE_POLICY_PENDING, f"{_PLACEMENTS} tries to freeze were overtaken by workers'")

    def repair(self, *, owner: str, deadline: float) -> list[dict[str, Any]]:
        """Read what IAM has of every shard and make it what it should be; tell what had to be done."""
        last_write = deadline - _RESERVE
        patience = min(self._clock() + _LONG_PATIENCE, last_write)
        while not self._table.take_pen(owner, now=self._clock(), until=deadline + LEASE_MARGIN):
            if self._clock() >= patience:
                raise _being_written()
            self._pause(_LONG_PAUSE)
        try:
            snapshot = self._table.load()
            settings = snapshot.in_force(self._settings)
            done = [step for shard in snapshot.shards for step in self._repair(shard, settings)]
            self._write_all(last_write)
        finally:
            self._table.let_go(owner)
        return done

    def _repair(self, shard: Shard, settings: Settings) -> Iterator[dict[str, Any]]:
        organization_id = self._organization_id(settings)
        # What stands under the name of a shard that was never written may be anybody's: to create it finds out.
        observed = self._policies.observe(shard.name) if shard.written else None
        desired = desired_policy(settings, shard, organization_id)
        if not settings.attachable_principals:
            # Where the operator attaches, only what earlier settings had us attach goes.
            theirs = observed.attached if observed else frozenset()
            desired = replace(desired, attached=theirs - (shard.attached - desired.attached))
        for action in plan(observed, desired):
            self._policies.carry_out(shard.name, action)
            yield {"policy_name": shard.name, "action": type(action).__name__}
        self._mark(shard, settings, organization_id)

    def remove(self, *, owner: str, deadline: float) -> None:
        """Delete every shard from IAM, then from the table; a RetryableError where another worker has the pen."""
        if not self._table.take_pen(owner, now=self._clock(), until=deadline + LEASE_MARGIN):
            raise _being_written()
        try:
            for shard in reversed(self._table.load().shards):
                self._policies.remove(shard.name, was_written=shard.written > 0)
                self._table.forget(shard)
        finally:
            self._table.let_go(owner)

    def standing(self) -> "Snapshot":
        """Read what the shards name, whether they are frozen, and whether enrolling is stopped."""
        return self._table.load()

    def fill_percent(self) -> float:
        """Say how much of the room for accounts is taken, over all the shards that could be attached."""
        snapshot = self._table.load()
        if snapshot.names_everyone:
            return 100 * sum(len(shard.excluded) for shard in snapshot.shards) / capacity(self._settings)
        taken = sum(len(shard.accounts) for shard in snapshot.shards)
        return 100 * taken / (capacity(self._settings) * max(self._policies.room(), 1))

    def stop(self) -> None:
        """Have every account leave the source policy, and none join, until `resume`."""
        self._table.stop()

    def resume(self) -> None:
        """Let accounts be enrolled again."""
        if self._table.load().stopped:
            self._table.resume()

    def forget_names(self) -> None:
        """Have other names and another scope allowed, where nothing is left of what was made for these."""
        snapshot = self._table.load()
        if snapshot.stopped and not snapshot.shards:
            self._table.forget_names(snapshot)

    def _place(self, moves: Moves, seen: "Snapshot | None") -> "tuple[Snapshot, AccountError | None]":
        """Answer the snapshot that is placed, and what kept exclusions out of it."""
        snapshot: Snapshot = seen or self._table.load()
        for _ in range(_PLACEMENTS):
            if snapshot.stopped and not snapshot.shards:
                return snapshot, None  # What was uninstalled is not opened again, not even to leave an account out.
            wanted, refused = place_all_that_fit(snapshot.shards, moves, snapshot.in_force(self._settings))
            if snapshot is not seen and len(wanted) > len(snapshot.shards) > 0:
                self._require_room(snapshot, moves.join)
            changed = [shard for shard in wanted if shard not in snapshot.shards]
            overtaken = not self._table.place(snapshot, changed) if changed else self._table.has_moved(snapshot)
            if not overtaken:
                return replace(snapshot, shards=wanted), refused
            snapshot = self._table.load()
        raise _overtaken()

    def _require_room(self, snapshot: "Snapshot", joining: frozenset[AccountId]) -> None:
        """Hand a batch back whose room others took since it was prepared, unless another shard can be opened.

        Prepared anew, its newcomers are refused, and nobody else is held up.
        """
        try:
            self._opens_a_shard(snapshot, joining)
            held, _ = self._held(snapshot)
        except AccountError as error:
            message = f"the last room was taken meanwhile, and no shard can be opened: {error}"
            raise RetryableError(Reason.SOURCE_POLICY_PENDING, message) from error
        if held:
            raise _overtaken()

    def _pending(self, current: "Snapshot", target: "Snapshot") -> Iterator[Shard]:
        """List the shards of which IAM still lacks what this batch placed, or is behind on settings; others' later moves are theirs."""
        placed = {shard.name: shard.version for shard in target.shards}
        settings = current.in_force(self._settings)
        for shard in current.shards:
            is_owed = shard.written < placed.get(shard.name, 0)
            if is_owed or (shard.written == shard.version and self._is_behind(shard, settings)):
                yield shard

    def _is_behind(self, shard: Shard, settings: Settings) -> bool:
        return is_behind(settings, shard, self._organization_id(settings))

    def _write_all(self, last_write: float) -> "tuple[dict[str, AccountError], Snapshot]":
        """Write every shard that is behind until none is; tell what failed, and the shards as they are now."""
        errors: dict[str, AccountError] = {}
        while True:
            snapshot: Snapshot = self._table.load()
            settings = snapshot.in_force(self._settings)
            shards = tuple(self._written(shard, settings, errors, last_write) for shard in snapshot.shards)
            # Marks are the lease holder's alone, so unless somebody placed there is nothing to look at again.
            if not self._table.has_moved(snapshot):
                return errors, replace(snapshot, shards=shards)

    def _written(self, shard: Shard, settings: Settings, errors: dict[str, AccountError], last_write: float) -> Shard:
        """Write a shard where it is behind, and tell what it is after that; what fails is not tried again."""
        if shard.name in errors or not self._is_behind(shard, settings):
            return shard
        try:
            if self._clock() >= last_write:
                raise _still_pending(shard)
            return self._write(shard, settings)
        except AccountError as error:
            errors[shard.name] = error
            return shard

    def _write(self, shard: Shard, settings: Settings) -> Shard:
        organization_id = self._organization_id(settings)
        desired = desired_policy(settings, shard, organization_id)
        for action in plan(believed_policy(settings, shard, organization_id), desired):
            self._policies.carry_out(shard.name, action)
        return self._mark(shard, settings, organization_id)

    def _mark(self, shard: Shard, settings: Settings, organization_id: str) -> Shard:
        desired = desired_policy(settings, shard, organization_id)
        marked = replace(
            shard,
            written=shard.version,
            form=form(settings, shard, organization_id),
            attached=desired.attached,
        )
        self._table.mark_written(marked)
        return marked

    def _organization_id(self, settings: Settings) -> str:
        return self._ask_organization_id() if settings.source_policy_scope is Scope.ORGANIZATION else ""


def _not_left_out(snapshot: "Snapshot", account_ids: frozenset[AccountId]) -> frozenset[AccountId]:
    return account_ids.difference(*(shard.excluded for shard in snapshot.shards))


def _held_back(snapshot: "Snapshot", refusal: AccountError) -> frozenset[Move]:
    if isinstance(refusal, RetryableError):
        # A policy that was there before and isn't taken in yet may name an account that no shard names.
        return frozenset(Move) - {Move.STAY}
    # In scope organization an exclusion would open the first shard, and others then find it there.
    return frozenset({Move.EXCLUDE}) if snapshot.names_everyone and not snapshot.shards else frozenset()


def _still_pending(shard: Shard) -> RetryableError:
    return RetryableError(Reason.SOURCE_POLICY_PENDING, f"{shard.name} waits for its writer")


def _being_written() -> RetryableError:
    return RetryableError(Reason.SOURCE_POLICY_PENDING, "another worker writes the source policy just now")


def _overtaken() -> RetryableError:
    message = f"{_PLACEMENTS} placements in a row were overtaken by other workers'"
    return RetryableError(Reason.SOURCE_POLICY_PENDING, message)
