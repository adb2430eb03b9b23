"""Bugs that an application may be made with, one at least for each invariant: the simulation must notice every one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, islice

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.failures import translated
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.member_roles import MemberRoles
from chalicelib.aws.organizations import Organization
from chalicelib.aws.shards import ShardTable, Snapshot
from chalicelib.aws.source_policies import SourcePolicies
from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.enroll import Enroll, _Job
from chalicelib.errors import AccountError, Reason
from chalicelib.member_role import Action, AttachPolicy, MemberRole, SetTrust
from chalicelib.pen import Pen, Settled
from chalicelib.reconcile import Reconcile, Verdict
from chalicelib.settings import Settings
from chalicelib.source_policy import AttachTo, Move, Moves, Shard, desired_policy, plan
from tests.simulation.boundary import Warm, simulated
from tests.simulation.every_call import interrupted
from tests.simulation.life import Life, first_broken
from tests.simulation.one_fault import KILLS


class Parts(Warm):
    """Puts together what a planted bug takes the place of."""

    enrolls: type[Enroll] = Enroll
    pens: type[Pen] = Pen
    reconciles: type[Reconcile] = Reconcile
    roles: type[MemberRoles] = MemberRoles
    ledgers: type[Ledger] = Ledger
    tables: type[ShardTable] = ShardTable
    policies: type[SourcePolicies] = SourcePolicies
    organizations: type[Organization] = Organization

    @cached_property
    def _enroll(self) -> Enroll:
        return self.enrolls(
            reconcile=self._reconcile,
            pen=self._pen,
            ledger=self._ledger,
            queue=self._queue,
            threads=1,
            clock=self._clock,
            pool=self._pool,
        )

    @cached_property
    def _reconcile(self) -> Reconcile:
        roles = self.roles(self._iam, self._settings.member_role_name)
        return self.reconciles(
            self._settings,
            self._organization,
            self._sessions,
            roles,
            lambda: datetime.fromtimestamp(self._clock(), UTC),
        )

    @cached_property
    def _pen(self) -> Pen:
        table = self.tables(self._settings, self._dynamodb, self._environ["SOURCE_POLICY_TABLE"])
        policies = self.policies(self._settings, self._sessions, self._iam)
        ask = self._organization.organization_id
        return self.pens(self._settings, table, policies, ask, self._clock, self._pause)

    @cached_property
    def _ledger(self) -> Ledger:
        return self.ledgers(self._dynamodb, self._environ["LEDGER_TABLE"])

    @cached_property
    def _organization(self) -> Organization:
        return self.organizations(self._settings, self._session.client("organizations", config=self._config))


class _LeavesTrustAlone(MemberRoles):
    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, SetTrust):
            super().carry_out(action, arn)


class LeavesTrustAlone(Parts):
    """Does not mend a role's trust."""

    roles = _LeavesTrustAlone


class _AttachesNothing(MemberRoles):
    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, AttachPolicy):
            super().carry_out(action, arn)


class AttachesNothing(Parts):
    """Makes roles that may do nothing."""

    roles = _AttachesNothing


class _TakesForeignRoles(MemberRoles):
    def observe(self, desired: MemberRole) -> MemberRole | None:
        seen = super().observe(desired)
        return replace(seen, tags=desired.tags) if seen else None


class TakesForeignRoles(Parts):
    """Takes every role of the member role's name for its own."""

    roles = _TakesForeignRoles


class _NeverLetsLeave(Pen):
    def settle(self, moves: Moves, *, owner: str, deadline: float, seen: Snapshot | None = None) -> Settled:
        return super().settle(Moves(join=moves.join), owner=owner, deadline=deadline, seen=seen)


class NeverLetsLeave(Parts):
    """Leaves in the source policy who was once there."""

    pens = _NeverLetsLeave


class _LetsNobodyJoin(Pen):
    def settle(self, moves: Moves, *, owner: str, deadline: float, seen: Snapshot | None = None) -> Settled:
        staying = Moves(leave=moves.leave, exclude=moves.exclude)
        settled = super().settle(staying, owner=owner, deadline=deadline, seen=seen)
        return Settled(dict.fromkeys(moves.join, "CrossAccountReadOnlyAccess"), settled.errors)


class LetsNobodyJoin(Parts):
    """Believes placed what is not."""

    pens = _LetsNobodyJoin


class _PlacesTooMany(ShardTable):
    def place(self, seen: Snapshot, changed: object) -> bool:
        more = frozenset(AccountId(f"8{number:011}") for number in range(20))
        shards: list[Shard] = list(changed)  # type: ignore[call-overload]
        return super().place(seen, [replace(shard, accounts=shard.accounts | more) for shard in shards])


class PlacesTooMany(Parts):
    """Counts a shard's room wrongly."""

    tables = _PlacesTooMany


class _NeverPrunes(SourcePolicies):
    def _write_version(self, arn: str, document: Document) -> None:
        if len(self._versions(arn)) < 5:
            super()._write_version(arn, document)


class NeverPrunes(Parts):
    """Takes what does not fit beside five versions for written."""

    policies = _NeverPrunes


class _LeavesStrays(Pen):
    def _repair(self, shard: Shard, settings: Settings) -> object:  # type: ignore[override]
        observed = self._policies.observe(shard.name)
        wanted = desired_policy(settings, shard, self._organization_id(settings))
        for action in plan(replace(observed, strays=()) if observed else None, wanted):
            self._policies.carry_out(shard.name, action)
        return ()


class LeavesStrays(Parts):
    """Does not mind versions that others made."""

    pens = _LeavesStrays


class _WritesNoReason(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, reason=None) if row.outcome is Outcome.FAILED else row, over=over)


class WritesNoReason(Parts):
    """Records failures without their reason."""

    ledgers = _WritesNoReason


class _HidesFailures(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return row.outcome is Outcome.FAILED or super().write(row, over=over)


class HidesFailures(Parts):
    """Records no failure at all."""

    ledgers = _HidesFailures


class _RetiresWhatFails(Reconcile):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: object) -> Verdict:
        verdict = super().__call__(account_id, row, **given)  # type: ignore[arg-type]
        if verdict.outcome is Outcome.FAILED:
            verdict.move = Move.LEAVE
        return verdict


class RetiresWhatFails(Parts):
    """Takes access away where an account can't be looked at."""

    reconciles = _RetiresWhatFails


class _BelievesEveryId(Organization):
    def describe(self, account_id: AccountId) -> Account | None:
        return super().describe(account_id) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


class BelievesEveryId(Parts):
    """Works in accounts that Organizations does not know."""

    organizations = _BelievesEveryId


class _MarksBeforeWriting(Pen):
    def _write(self, shard: Shard, settings: Settings) -> Shard:
        self._mark(shard, settings, "")
        return super()._write(shard, settings)


class MarksBeforeWriting(Parts):
    """Records a shard as written before it is."""

    pens = _MarksBeforeWriting


class _Stumbles(Enroll):
    def _believed(self, job: _Job) -> Account | None:
        return None if job.message.account is None else job.message.account.id  # type: ignore[return-value]


class Stumbles(Parts):
    """Fails in a way that nobody foresaw."""

    enrolls = _Stumbles


class _LeavesRoles(Reconcile):
    def remove(self, verdict: Verdict, row: LedgerRow | None, *, dry_run: bool = False) -> None:
        """Leave the role where it is."""


class LeavesRoles(Parts):
    """Takes no role away."""

    reconciles = _LeavesRoles


class _LeavesNobodyOut(Pen):
    def settle(self, moves: Moves, *, owner: str, deadline: float, seen: Snapshot | None = None) -> Settled:
        moves = Moves(join=moves.join, leave=moves.leave | moves.exclude)
        return super().settle(moves, owner=owner, deadline=deadline, seen=seen)


class LeavesNobodyOut(Parts):
    """Takes out of the source policy by name alone."""

    pens = _LeavesNobodyOut


class _NeverStops(ShardTable):
    def stop(self) -> None:
        """Go on enrolling."""


class NeverStops(Parts):
    """Enrolls whom an uninstall asks to leave."""

    tables = _NeverStops


class _StaysAtHome(SourcePolicies):
    @contextmanager
    def _entered(self, doing: str, _: object = None) -> Iterator[None]:
        with translated(doing):
            yield


class StaysAtHome(Parts):
    """Looks for the readers in the management account, wherever they are."""

    policies = _StaysAtHome


class _AttachesTheFirst(SourcePolicies):
    def carry_out(self, name: str, action: object) -> None:
        if name == "CrossAccountReadOnlyAccess" or not isinstance(action, AttachTo):
            super().carry_out(name, action)  # type: ignore[arg-type]


class AttachesTheFirst(Parts):
    """Attaches no shard but the first."""

    policies = _AttachesTheFirst


class _BelievesDepartures(Reconcile):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: object) -> Verdict:
        verdict = super().__call__(account_id, row, **given)  # type: ignore[arg-type]
        joined_at = verdict.account.joined_at if verdict.account else None
        if joined_at and row and row.reason is Reason.DEPARTED and row.joined_at == joined_at.isoformat():
            verdict.outcome, verdict.reason, verdict.move = Outcome.SKIPPED, Reason.DEPARTED, Move.LEAVE
        return verdict


class BelievesDepartures(Parts):
    """Takes an account that is there again, with the date that it had, for one that is still gone."""

    reconciles = _BelievesDepartures


class _ForgetsRetirements(Reconcile):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: object) -> Verdict:
        verdict = super().__call__(account_id, row, **given)  # type: ignore[arg-type]
        if verdict.reason is Reason.RETIRED_BY_REQUEST and verdict.account is None:
            verdict.reason = Reason.DEPARTED
        return verdict


class ForgetsRetirements(Parts):
    """Takes a retired account that left for one that merely left."""

    reconciles = _ForgetsRetirements


class _BelievesWithoutOus(Reconcile):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: object) -> Verdict:
        listed = given.get("listed")
        if isinstance(listed, Account):
            given["listed"] = replace(listed, ou_ids=listed.ou_ids or ())
        return super().__call__(account_id, row, **given)  # type: ignore[arg-type]


class BelievesWithoutOus(Parts):
    """Takes an account of which a listing told no organizational unit for one that is in none."""

    reconciles = _BelievesWithoutOus


class _LetsStrangersStay(Reconcile):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: object) -> Verdict:
        verdict = super().__call__(account_id, row, **given)  # type: ignore[arg-type]
        if verdict.account is None and row is None:
            verdict.move = Move.STAY
        return verdict


class LetsStrangersStay(Parts):
    """Lets those stay whom a policy named that was taken over, and whom nobody knows."""

    reconciles = _LetsStrangersStay


class _TakesForeignPolicies(SourcePolicies):
    def _refuse_foreign(self, *_: object) -> bool:
        return True


class TakesForeignPolicies(Parts):
    """Takes every policy under a shard's name for its own."""

    policies = _TakesForeignPolicies


class _NamesNobodyAtFirst(Pen):
    def follow_scope(self, _: object, *, owner: str, deadline: float) -> Mapping[str, AccountError]:
        return super().follow_scope(frozenset, owner=owner, deadline=deadline)


class NamesNobodyAtFirst(Parts):
    """Narrows the scope, and names who is enrolled only when it comes upon them."""

    pens = _NamesNobodyAtFirst


class _OpensWithoutRoom(Pen):
    def _require_room(self, snapshot: Snapshot, joining: frozenset[AccountId]) -> None:
        """Take it for granted that another shard can be attached."""


class OpensWithoutRoom(Parts):
    """Opens another shard for whose place somebody else took since it was promised."""

    pens = _OpensWithoutRoom


@dataclass(frozen=True)
class Planted:
    """A bug, the rule that it breaks, and what comes upon it: an organization's life, or a scenario that is interrupted."""

    kind: type[Application]
    rule: str
    scenario: str | None = None
    first: int = 0  # the seed to begin at, where the first that comes upon it is late
    way: str | None = None  # the way that an organization lives whose life comes upon it


PLANTED: Mapping[str, Planted] = {
    "a trust that is not mended": Planted(LeavesTrustAlone, "is the desired one", first=40),
    "a role without policies": Planted(AttachesNothing, "is the desired one"),
    "a role of others that is taken": Planted(TakesForeignRoles, "nothing that is not ours is changed"),
    "an account that never leaves": Planted(NeverLetsLeave, "names exactly the enrolled"),
    "an account that is never named": Planted(LetsNobodyJoin, "names exactly the enrolled"),
    "a shard over its quota": Planted(PlacesTooMany, "no document is over the quota", "shard overflow"),
    "five versions and no room": Planted(NeverPrunes, "IAM says of"),
    "a version of others' that stays": Planted(LeavesStrays, "has no version of others'", first=30),
    "a failure without a reason": Planted(WritesNoReason, "every failure has a reason"),
    "a failure that nobody sees": Planted(HidesFailures, "the ledger says where every account stands"),
    "a failure that takes access away": Planted(RetiresWhatFails, "no account is retired without cause"),
    "an id that nobody confirmed": Planted(BelievesEveryId, "no account is entered that Organizations never confirmed"),
    "a mark before the write": Planted(MarksBeforeWriting, "killed", "new account"),
    "a retired account's role that stays": Planted(LeavesRoles, "which is retired, is gone", first=45),
    "an account that is left in": Planted(LeavesNobodyOut, "the organization's source policy leaves"),
    "an uninstall that stops nobody": Planted(NeverStops, "an uninstall leaves nothing"),
    "a source account that nobody enters": Planted(StaysAtHome, "failed no_source_principal"),
    "a second shard that nobody has": Planted(AttachesTheFirst, "CrossAccountReadOnlyAccess-2 is attached"),
    "a last place that two are promised": Planted(
        OpensWithoutRoom, "and not failed quota", first=970, way="full shard"
    ),
    "a departure that never was": Planted(BelievesDepartures, "and not skipped departed"),
    "a retirement that is forgotten": Planted(ForgetsRetirements, "is retired no more", first=195),
    "a unit that nobody asked for": Planted(BelievesWithoutOus, "no account is retired without cause"),
    "a stranger that stays": Planted(LetsStrangersStay, "names exactly the enrolled"),
    "a policy of others' that is taken": Planted(TakesForeignPolicies, "nothing that is not ours is changed"),
    "a scope that is narrowed too early": Planted(NamesNobodyAtFirst, "no account is retired without cause", first=135),
    "an exception that nobody foresaw": Planted(Stumbles, "nothing unforeseen is raised"),
}
"""Each bug as an application with it is made."""


def noticed(planted: Planted, seeds: int) -> str | None:
    """Look for what a planted bug breaks, and tell it."""
    if planted.scenario is not None:
        told = interrupted(planted.scenario, KILLS, planted.kind).divergences
        return next((each for each in told if planted.rule in each), None)
    with simulated() as boundary:
        lived = (seed for seed in count(planted.first) if planted.way in {None, *Life(boundary, seed).ways})
        return first_broken(boundary, islice(lived, seeds), planted.kind, planted.rule)[0]
