"""What may change in an organization's life: its accounts, what people do by hand, what operators ask for."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.messages import Message, Trigger, write_message
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import parse
from tests.integration.simulation.cloud import SOURCE, SOURCE_POLICY
from tests.integration.simulation.iam import Policy, Role
from tests.integration.simulation.invariants import LOSSES
from tests.integration.simulation.members import MANAGEMENT, ORGANIZATION_ID
from tests.integration.simulation.stages import environ, event, member_role_arn, settings_of, source_policy_arn

if TYPE_CHECKING:
    from tests.integration.simulation.life import Life, Running

IDS = tuple(f"{number:012}" for number in range(1, 7))
STRANGER = "777777777777"  # an account that was never a member
LET_IN, DEPLOY = "let in", "deploy"  # what no function, but AWS or an operator does by and by
UNITS = (None, "ou-ab12-11111111", "ou-ab12-22222222")
SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"EXTERNAL_ID": "shared-secret"},
    {"MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit", "MEMBER_ROLE_MAX_SESSION": "7200"},
    {"EXCLUDE_OU_IDS": "ou-ab12-11111111"},
    {"INCLUDE_OU_IDS": "ou-ab12-11111111,ou-ab12-22222222", "MAX_RETIRED_PERCENT": "100"},
    {"EXCLUDE_ACCOUNT_IDS": IDS[1], "MAX_RETIRED_PERCENT": "100"},
    {"ADOPT_EXISTING_ROLES": "true", "DENY_DATA_READS": "false"},
    {"PERMISSIONS_BOUNDARY_ARN": "arn:aws:iam::aws:policy/ViewOnlyAccess", "INCLUDE_MANAGEMENT_ACCOUNT": "false"},
)
UNINSTALL = {"accounts": "all", "force": True}
_CONSISTENT = 60.0  # seconds after which IAM's reads show what was written
_ASKS = 10  # of an operator who uninstalls, until they give up
_CAUSED = 7200.0  # seconds for which what made an account leave may still do so: a listing, a slow function, a message that waits
_OTHERS = frozenset({("managed-by", "rolecall"), ("rolecall-stage", "another")})


class Changes:
    """Makes changes at random, and remembers what may have been a cause to retire an account."""

    def __init__(self, life: "Life", left: int) -> None:
        self._life, self.left = life, left
        self._random, self._cloud = life.random, life.cloud
        self.caused_at: dict[str, float] = {}
        self._retired: set[str] = set()  # who was asked to be
        self._stopped_at = 0.0  # when everybody had a cause to leave for the last time
        self._granted: frozenset[str] = frozenset()
        self._older: list[dict[str, Any]] = []  # the ledger, as it was now and then
        self._losing = self._random.random() < 0.25
        self.note_causes()
        if self._random.random() < 0.1 and not self._cloud.crowd:
            self._take_name()
        for account_id in self._random.sample(IDS, self._random.randint(1, 4)):
            self._create(account_id)
        if self._random.random() < 0.5:
            life.after(1, "backfill", {})

    def make_one(self) -> None:
        """Change one thing."""
        self.left -= 1
        self.note_causes()
        account_id = self._random.choice((*IDS, *IDS, MANAGEMENT))
        kind = self._random.choice(
            (self._change_member,) * 5
            + (self._edit_role,) * 3
            + (self._edit_source_policy,)
            + (self._ask,) * 5
            + (self._deny, self._deploy, self._forge)
            + (self._uninstall,) * (self._random.random() < 0.3)
            + (self._lose,) * (3 * self._losing)
        )
        kind(account_id)
        self.note_causes()

    # The organization.

    def _create(self, account_id: str) -> None:
        cloud, random = self._cloud, self._random
        invited = random.random() < 0.2
        cloud.join(account_id, random.choice(UNITS), access_role=not invited)
        # Its access role can be assumed some time later.
        if random.random() < 0.5:
            cloud.denied[account_id] = ""
            self._life.after(random.choice((20.0, 300.0)), LET_IN, account_id)
        self.tell(account_id, "joins")
        self._life.event(event(account_id))
        if random.random() < 0.05:
            # While IAM's reads may not show its role yet.
            self._retire(account_id, after=random.choice((3.0, 10.0, 20.0)))

    def _change_member(self, account_id: str) -> None:
        members, random = self._cloud.members, self._random
        member = members.members.get(account_id)
        if member is None:
            self._create(account_id)
            return
        if account_id == MANAGEMENT:
            return
        what = random.choice(("remove", "close", "suspend", "move", "activate"))
        self.tell(account_id, what)
        match what:
            case "remove":
                members.leave(account_id)
            case "close":
                members.alter(account_id, state=random.choice(("PENDING_CLOSURE", "CLOSED")))
            case "suspend":
                members.alter(account_id, state="SUSPENDED")
                return  # Nobody is told.
            case "activate":
                members.alter(account_id, state="ACTIVE")
            case _:
                members.alter(account_id, unit=random.choice(UNITS))
        self._life.event(event(account_id))

    # By hand.

    def _edit_role(self, account_id: str) -> None:
        arn = member_role_arn(account_id)
        role, random, iam = self._cloud.iam.role(arn), self._random, self._cloud.iam
        if account_id not in self._cloud.members.known:
            return
        if role is None or random.random() < 0.2:
            tags = random.choice((_OTHERS, frozenset()))
            made = Role(arn, tags=tags, attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"}))
            iam.put(arn, made)
            self.tell(account_id, f"has a member role made by hand, tags {dict(tags)}")
            return
        edited = random.choice(
            (
                None,
                replace(role, trust='{"Version":"2012-10-17","Statement":[]}'),
                replace(role, max_session=3601),
                replace(role, attached=frozenset()),
                replace(role, attached=role.attached | {"arn:aws:iam::aws:policy/ViewOnlyAccess"}),
                replace(role, inline=frozenset({("Theirs", "{}")})),
                replace(role, inline=frozenset((name, "{}") for name, _ in role.inline)),
                replace(role, boundary="arn:aws:iam::aws:policy/SecurityAudit"),
                replace(role, tags=role.tags | {("cost", "center")}),
                replace(role, tags=frozenset()),
            )
        )
        iam.put(arn, edited)
        self.tell(account_id, f"has its member role edited: {edited}")

    def _take_name(self) -> None:
        """Let the source account have a policy of others' under a name of ours, such as the guide's, or for something else."""
        arn = source_policy_arn(self._cloud.source_account) + self._random.choice(("", "-2"))
        roles = [member_role_arn(IDS[0]), member_role_arn(STRANGER)]
        action, resources = self._random.choice((("sts:AssumeRole", roles), ("s3:GetObject", ["*"])))
        statement = {"Effect": "Allow", "Action": action, "Resource": resources}
        said = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        tags = self._random.choice((_OTHERS, frozenset()))
        self._cloud.iam.put(arn, Policy(arn, ((1, said),), 1, 2, tags))
        self._life.ways.add("foreign source policy")
        self.tell(arn, f"is made by others, tags {dict(tags)}: {said}")

    def give_names_back(self) -> None:
        """Delete the policies of others under our names, as the error tells an operator to."""
        applied = {name for name, record in self._cloud.shards().items() if "applied" in record}
        settings = settings_of(environ(**self._life.settings))
        for name, policy in self._cloud.source_policies().items():
            mine = settings.ownership(policy.arn, dict(policy.tags)).is_ours
            if name not in applied and not (mine and is_ours(policy.document, settings)):
                self._detach(policy)
                self._cloud.iam.put(policy.arn, None)

    def _detach(self, policy: Policy) -> None:
        for arn in policy.attached:
            role = self._cloud.iam.role(arn)
            if role is not None:
                self._cloud.iam.put(arn, replace(role, attached=role.attached - {policy.arn}))

    def _edit_source_policy(self, _: str) -> None:
        iam, random = self._cloud.iam, self._random
        policy = iam.policy(source_policy_arn(self._cloud.source_account))
        if policy is None:
            return
        what = random.choice(("edited", "deleted", "detached", "untagged", "given a version"))
        self.tell(SOURCE_POLICY, f"is {what} by hand")
        if what in {"deleted", "detached"}:
            self._detach(policy)
            iam.put(policy.arn, None if what == "deleted" else replace(policy, attached=frozenset()))
        elif what == "untagged":
            iam.put(policy.arn, replace(policy, tags=frozenset()))
        elif len(policy.versions) < 5:
            iam.put(policy.arn, _with_version(policy, default=what == "edited"))

    def _lose(self, _: str) -> None:
        """Lose a table, or put an older ledger back; not while publish runs, or before IAM shows what it wrote last."""
        cloud, random = self._cloud, self._random
        tables = cloud.tables.items
        ledger = tables.get("ledger", {})
        self._older.append(dict(ledger))
        written = max((past[-1][0] for arn, past in cloud.iam.past.items() if SOURCE_POLICY in arn), default=0.0)
        if self._life.is_publishing or cloud.now - written < _CONSISTENT or cloud.is_uninstalling:
            return
        what = random.choice(LOSSES)
        self.tell("tables", what)
        self._life.ways.add(what)
        if what == "older ledger put back":
            tables["ledger"] = random.choice(self._older)
        if what in {"ledger lost", "both tables lost"}:
            tables["ledger"] = {}
        if what == "shard record lost":
            names = sorted(cloud.shards())
            if names:
                del tables["source-policy"][random.choice(names)]
        if what in {"source-policy table lost", "both tables lost"}:
            tables["source-policy"] = {}
        cloud.witness.note()
        self._granted = self._granted_now()

    # Operators, and others.

    def _ask(self, account_id: str) -> None:
        function, request = self._random.choice(
            (
                ("resync", {}),
                ("resync", {"accounts": "new"}),
                ("resync", {"accounts": "new"}),
                ("backfill", {}),
                ("backfill", {"accounts": "new", "dry_run": True}),
                ("rerun", {}),
                ("retire", {"accounts": [account_id]}),
                ("backfill", {"accounts": [account_id]}),
                ("freeze", {"frozen": True}),
                ("freeze", {"frozen": False}),
            )
        )
        if function == "retire":
            self._retire(account_id)
        else:
            self._life.after(0, function, request)

    def _retire(self, account_id: str, after: float = 0.0) -> None:
        self._retired.add(account_id)
        self.caused_at[account_id] = self._cloud.now + 86_400
        self._life.after(after, "retire", {"accounts": [account_id]})

    def _uninstall(self, _: str) -> None:
        """Retire everybody; an operator asks again until nothing is left, and may enroll everybody anew one day."""
        self._stopped_at = self._cloud.now
        self._life.after(0, "retire", UNINSTALL)
        if self._random.random() < 0.7:
            self._life.after(self._random.choice((300.0, 3000.0, 30_000.0)), "backfill", {})

    def asked(self, running: "Running", answer: Any) -> None:
        """Have an operator go on with an uninstall that is not at its end; None is no answer at all."""
        if running.function != "retire" or running.payload["accounts"] != "all":
            return
        following = UNINSTALL if answer is None else answer["next"]
        if following is None:
            self._life.ways.add("uninstalled")
        elif running.tries < _ASKS and self._cloud.is_uninstalling:
            self._life.after(self._random.choice((61.0, 600.0)), "retire", following, running.tries + 1)

    def _deny(self, account_id: str) -> None:
        if account_id == MANAGEMENT:
            account_id = self._cloud.source_account
        if account_id == MANAGEMENT:
            return
        if account_id == SOURCE:
            # Nothing at all can be written meanwhile.
            self._life.after(self._random.choice((20.0, 300.0, 3000.0)), LET_IN, account_id)
        if account_id in self._cloud.denied and self._random.random() < 0.7:
            self.let_in(account_id)
            return
        scp = "with an explicit deny in a service control policy"
        self._cloud.denied[account_id] = self._random.choice(("", scp))
        self.tell(account_id, "lets nobody in")

    def let_in(self, account_id: str) -> None:
        self._cloud.denied.pop(account_id, None)
        self.tell(account_id, "lets the access role in")

    def _deploy(self, _: str) -> None:
        settings = dict(self._random.choice(SETTINGS))
        if self._cloud.crowd:
            # So many are to leave when somebody decides so, and not while everything else happens.
            settings.pop("MAX_RETIRED_PERCENT", None)
        if self._random.random() < 0.3:
            settings["SOURCE_POLICY_SCOPE"] = self._random.choice(("accounts", "organization"))
        if self._random.random() < 0.3:
            # While messages of a sweep wait.
            self._life.after(0, "resync", {})
            self._life.after(self._random.choice((0.3, 1.0, 5.0)), DEPLOY, settings)
        else:
            self._life.deploy(settings)

    def _forge(self, _: str) -> None:
        """Send what was never sent by Rolecall or AWS, about an account that was never a member, or about nothing."""
        if self._random.random() < 0.5:
            self._life.after(0, "on_account_event", event(STRANGER))
            return
        body = write_message(Message(account_id=STRANGER, trigger=Trigger.EVENT))  # type: ignore[arg-type]
        self._cloud.queues.accounts.put(self._random.choice((body, "{}", "not JSON", json.dumps({"account_id": "1"}))))

    # Causes.

    def is_ineligible(self, account_id: str) -> bool:
        """Tell whether there is a cause, just now, for an account not to be named."""
        member = self._cloud.members.members.get(account_id)
        return member is None or member.state != "ACTIVE" or self.is_left_out(account_id)

    def is_left_out(self, account_id: str) -> bool:
        """Tell whether an account is not to be named for what operators asked, or what the settings say of it."""
        if self._cloud.is_uninstalling:
            return True
        if account_id in self._retired and "retirement_requested_at" in self._cloud.row(account_id):
            return True
        member = self._cloud.members.members.get(account_id)
        unit = member.unit if member else None
        return any(
            account_id in settings.get("EXCLUDE_ACCOUNT_IDS", "")
            or (unit is not None and unit in settings.get("EXCLUDE_OU_IDS", ""))
            or ("INCLUDE_OU_IDS" in settings and (unit is None or unit not in settings["INCLUDE_OU_IDS"]))
            or (account_id == MANAGEMENT and settings.get("INCLUDE_MANAGEMENT_ACCOUNT") == "false")
            for settings in self._life.settings_in_force
        )

    def note_causes(self) -> None:
        if self._cloud.is_uninstalling:
            self._stopped_at = self._cloud.now
        for account_id in (*IDS, MANAGEMENT, SOURCE, STRANGER):
            if self.is_ineligible(account_id):
                self.caused_at[account_id] = max(self._cloud.now, self.caused_at.get(account_id, 0.0))

    def look_for_causes(self, who: str) -> None:
        """Require, of every account whose row grants it no longer, that there was a cause."""
        before, self._granted = self._granted, self._granted_now()
        self.require_causes(before - self._granted, who)

    def _granted_now(self) -> frozenset[str]:
        rows = self._cloud.tables.items.get("ledger", {})
        return frozenset(each for each, row in rows.items() if row.get("access") == {"S": "granted"})

    def require_causes(self, gone: Iterable[str], who: str) -> None:
        """Require, of each of some accounts, that there was a cause for it to leave."""
        self.note_causes()
        for account_id in gone:
            caused_at = max(self.caused_at.get(account_id, 0.0), self._stopped_at)
            caused = caused_at > self._cloud.now - _CAUSED
            self._cloud.require(f"no account is retired without cause, as {account_id} by {who}", caused)

    def tell(self, about: str, what: str) -> None:
        self._life.tell("world", f"{about} {what}")


def is_ours(text: str, settings: Settings) -> bool:
    """Whether a document is one that publish writes."""
    return parse(Document(text), settings, ORGANIZATION_ID) is not None


def _with_version(policy: Policy, *, default: bool) -> Policy:
    said = '{"Version":"2012-10-17","Statement":[]}'
    versions = (*policy.versions, (policy.following, said))
    number = policy.following if default else policy.default
    return replace(policy, versions=versions, default=number, following=policy.following + 1)
