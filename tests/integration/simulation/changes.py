"""What changes in a random run: member accounts, edits of roles and policies, lost tables, and requests."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib.documents import Document
from chalicelib.source_policy.documents import parse
from tests.integration.simulation.cloud import LOSSES, SOURCE_POLICY
from tests.integration.simulation.environment import (
    environ,
    event,
    member_role_arn,
    settings_of,
    source_policy_arn,
    tag_event,
)
from tests.integration.simulation.iam import EMPTY_DOCUMENT, Policy, Role
from tests.integration.simulation.members import ENVIRONMENTS, IDS, MANAGEMENT, ORGANIZATION_ID, UNITS, UNKNOWN_ACCOUNT
from tests.integration.simulation.role_drifts import ROLE_DRIFTS

if TYPE_CHECKING:
    from tests.integration.simulation.random_run import RandomRun

RESTORED = "older ledger put back"
_CONSISTENT_SECONDS = 60.0  # after which IAM's reads show a write
_OTHERS = frozenset({("managed-by", "rolecall"), ("rolecall-stage", "another")})


class Changes:
    """Makes a number of changes at random."""

    def __init__(self, run: "RandomRun", left: int) -> None:
        self._run, self.left = run, left
        self._cloud, self._random = run.cloud, run.random
        self._older_ledgers: list[dict[str, Any]] = []
        # In scope none, the row is all that shows which account has a role.
        self._loses = self._random.random() < 0.25 and run.has_source_policy
        run.causes.note()
        if self._random.random() < 0.1 and not self._cloud.orphaned and run.has_source_policy:
            self._create_foreign_policy()
        for account_id in self._random.sample(IDS, self._random.randint(1, 4)):
            self._create(account_id)
        if self._random.random() < 0.5:
            run.schedule(1, "backfill", {})

    def make_one(self) -> None:
        self.left -= 1
        self._run.causes.note()
        account_id = self._random.choice((*IDS, *IDS, MANAGEMENT))
        operators = self._run.operators
        change = self._random.choice(
            (self._change_member,) * 5
            + (self._edit_role,) * 3
            + (self._edit_source_policy,)
            + (operators.request,) * 5
            + (operators.deny, operators.deploy, operators.forge)
            + (operators.uninstall,) * (self._random.random() < 0.3)
            + (self._lose,) * (3 * self._loses)
        )
        change(account_id)
        self._run.causes.note()

    def _log(self, subject: str, text: str) -> None:
        self._run.log("world", f"{subject} {text}")

    # Members.

    def _create(self, account_id: str) -> None:
        random = self._random
        is_invited = random.random() < 0.2
        unit, env = random.choice((None, *UNITS)), random.choice((None, *ENVIRONMENTS))
        self._cloud.join(account_id, unit, env, access_role=not is_invited)
        if random.random() < 0.5:
            # The access role of a new account can be assumed some time later.
            self._cloud.denied[account_id] = ""
            self._run.after(random.choice((20.0, 300.0)), lambda: self._run.operators.allow(account_id))
        self._log(account_id, "joins")
        self._send_event(event(account_id))
        if random.random() < 0.05:
            # While IAM's reads may not show its role yet.
            self._run.operators.retire(account_id, after=random.choice((3.0, 10.0, 20.0)))

    def _change_member(self, account_id: str) -> None:
        members, random = self._cloud.members, self._random
        if account_id not in members.members:
            self._create(account_id)
            return
        if account_id == MANAGEMENT:
            return
        change = random.choice(("remove", "close", "suspend", "move", "tag", "activate"))
        self._log(account_id, change)
        match change:
            case "remove":
                members.leave(account_id)
            case "close":
                members.change(account_id, state=random.choice(("PENDING_CLOSURE", "CLOSED")))
            case "suspend":
                members.change(account_id, state="SUSPENDED")
                return  # without an event
            case "activate":
                members.change(account_id, state="ACTIVE")
            case "tag":
                members.change(account_id, env=random.choice((None, *ENVIRONMENTS)))
                self._send_event(tag_event(account_id))
                return
            case _:
                members.change(account_id, unit=random.choice((None, *UNITS)))
        self._send_event(event(account_id))

    def _send_event(self, sent: dict[str, Any]) -> None:
        """Let EventBridge deliver an event: maybe never, late or twice."""
        if self._random.random() < self._run.rates.losing:
            self._run.faults["event lost"] += 1
            return
        for _ in range(self._random.choice((1, 1, 1, 2))):
            self._run.schedule(self._random.choice((0.5, 5.0, 120.0, 3000.0)), "on_account_event", sent)

    # Edits by hand.

    def _edit_role(self, account_id: str) -> None:
        arn = member_role_arn(account_id)
        role, random, iam = self._cloud.iam.role(arn), self._random, self._cloud.iam
        if account_id not in self._cloud.members.confirmed:
            return
        if role is None or random.random() < 0.2:
            tags = random.choice((_OTHERS, frozenset()))
            attached = frozenset({"arn:aws:iam::aws:policy/SecurityAudit"})
            stack = "StackSet-readers" if account_id in IDS[::2] else None
            iam.put(arn, Role(arn, tags=tags, attached=attached, stack=stack))
            self._log(account_id, f"has a member role created by {stack or 'hand'}, tags {dict(tags)}")
            return
        edited = random.choice((None, *(drift(role) for drift in ROLE_DRIFTS.values())))
        iam.put(arn, edited)
        self._log(account_id, f"has its member role edited: {edited}")

    def _create_foreign_policy(self) -> None:
        """Create a policy under a shard's name, such as the guide's, or for another purpose."""
        arn = source_policy_arn(self._cloud.source_account) + self._random.choice(("", "-2"))
        roles = [member_role_arn(IDS[0]), member_role_arn(UNKNOWN_ACCOUNT)]
        action, resources = self._random.choice((("sts:AssumeRole", roles), ("s3:GetObject", ["*"])))
        statement = {"Effect": "Allow", "Action": action, "Resource": resources}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        tags = self._random.choice((_OTHERS, frozenset()))
        self._cloud.iam.put(arn, Policy(arn, ((1, document),), tags=tags))
        self._run.conditions.add("foreign source policy")
        self._log(arn, f"is created by others, tags {dict(tags)}: {document}")

    def delete_foreign_policies(self) -> None:
        """Delete the policies of others under the shards' names, as the error asks an operator to."""
        applied = {name for name, record in self._cloud.shards().items() if "applied" in record}
        settings = settings_of(environ(**self._run.settings))
        for name, policy in self._cloud.source_policies().items():
            is_tagged = settings.ownership(policy.arn, dict(policy.tags)).is_ours
            is_shard = is_tagged and parse(Document(policy.document), settings, ORGANIZATION_ID) is not None
            if name not in applied and not is_shard:
                self._detach(policy)
                self._cloud.iam.put(policy.arn, None)

    def _detach(self, policy: Policy) -> None:
        for arn in policy.attached:
            self._cloud.iam.detach(arn, policy.arn)

    def _edit_source_policy(self, _: str) -> None:
        iam = self._cloud.iam
        policy = iam.policy(source_policy_arn(self._cloud.source_account))
        if policy is None:
            return
        edit = self._random.choice(("edited", "deleted", "detached", "untagged", "given a version"))
        self._cloud.edited_at = self._cloud.now
        self._log(SOURCE_POLICY, f"is {edit} by hand")
        if edit in {"deleted", "detached"}:
            self._detach(policy)
            if edit == "deleted":
                iam.put(policy.arn, None)
        elif edit == "untagged":
            iam.put(policy.arn, replace(policy, tags=frozenset()))
        elif len(policy.versions) < 5:
            iam.put(policy.arn, policy.with_version(EMPTY_DOCUMENT, default=edit == "edited"))
        else:
            iam.put(policy.arn, replace(policy, default=min(dict(policy.versions))))

    def _lose(self, _: str) -> None:
        """Lose a table, or restore an older ledger; not while publish runs, or before IAM shows its last write."""
        cloud, random = self._cloud, self._random
        tables = cloud.tables.items
        self._older_ledgers.append(dict(tables.get("ledger", {})))
        written_at = max((past[-1][0] for arn, past in cloud.iam.history.items() if SOURCE_POLICY in arn), default=0.0)
        if self._run.is_publishing or cloud.now - written_at < _CONSISTENT_SECONDS or cloud.is_uninstalling:
            return
        loss = random.choice((*LOSSES, RESTORED))
        self._log("tables", loss)
        self._run.conditions.add(loss)
        if loss == RESTORED:
            tables["ledger"] = random.choice(self._older_ledgers)
        shards = sorted(cloud.shards())
        cloud.lose(loss, random.choice(shards) if shards and loss == "shard record lost" else "")
        self._run.causes.note_granted()
