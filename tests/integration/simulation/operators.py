"""What operators and others request in a random run."""

import json
from random import Random
from typing import TYPE_CHECKING, Any

from chalicelib.messages import Message, Trigger, write_message
from tests.integration.simulation.cloud import SOURCE
from tests.integration.simulation.environment import SETTINGS, event
from tests.integration.simulation.members import MANAGEMENT, UNKNOWN_ACCOUNT
from tests.integration.simulation.simulated_stage import UNINSTALL

if TYPE_CHECKING:
    from tests.integration.simulation.functions import Invocation
    from tests.integration.simulation.random_run import RandomRun

_UNINSTALL_REQUESTS = 10  # of an operator, at most


class Operators:
    """Requests at random."""

    def __init__(self, run: "RandomRun") -> None:
        self._run, self._cloud = run, run.cloud
        self._random: Random = run.random

    def request(self, account_id: str) -> None:
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
            self.retire(account_id)
        elif function == "freeze" and not self._run.has_source_policy:
            self._run.schedule(0, "rerun", {})
        else:
            self._run.schedule(0, function, request)

    def retire(self, account_id: str, after: float = 0.0) -> None:
        self._run.causes.retire(account_id)
        self._run.schedule(after, "retire", {"accounts": [account_id]})

    def uninstall(self, _: str) -> None:
        """Uninstall everything, and enroll all accounts again later, maybe."""
        self._run.causes.uninstalled_at = self._cloud.now
        self._run.schedule(0, "retire", UNINSTALL)
        if self._random.random() < 0.7:
            self._run.schedule(self._random.choice((300.0, 3000.0, 30_000.0)), "backfill", {})

    def continue_uninstall(self, invocation: "Invocation", response: Any) -> None:
        """Repeat the request of an unfinished uninstall; the response is None after a failure."""
        if invocation.function != "retire" or invocation.payload["accounts"] != "all":
            return
        following = UNINSTALL if response is None else response["next"]
        if following is None:
            self._run.conditions.add("uninstalled")
        elif invocation.tries < _UNINSTALL_REQUESTS and self._cloud.is_uninstalling:
            self._run.schedule(self._random.choice((61.0, 600.0)), "retire", following, invocation.tries + 1)

    def deny(self, account_id: str) -> None:
        """Deny the access role of an account, or allow it again."""
        if account_id == MANAGEMENT:
            account_id = self._cloud.source_account
        if account_id == MANAGEMENT:
            return
        if account_id == SOURCE:
            # Meanwhile, nothing can be written at all.
            self._run.after(self._random.choice((20.0, 300.0, 3000.0)), lambda: self.allow(account_id))
        if account_id in self._cloud.denied and self._random.random() < 0.7:
            self.allow(account_id)
            return
        scp = "with an explicit deny in a service control policy"
        self._cloud.denied[account_id] = self._random.choice(("", scp))
        self._run.log("world", f"{account_id} denies its access role")

    def allow(self, account_id: str) -> None:
        self._cloud.denied.pop(account_id, None)
        self._run.log("world", f"{account_id} allows its access role")

    def deploy(self, _: str) -> None:
        settings = dict(self._random.choice(SETTINGS))
        if self._cloud.orphaned:
            # So many accounts are revoked only if an operator forces it, not in the middle of everything else.
            settings.pop("MAX_RETIRED_PERCENT", None)
        if self._random.random() < 0.3:
            settings["SOURCE_POLICY_SCOPE"] = self._random.choice(("accounts", "organization"))
        if self._random.random() < 0.3:
            # While messages of a sweep wait.
            self._run.schedule(0, "resync", {})
            self._run.after(self._random.choice((0.3, 1.0, 5.0)), lambda: self._run.deploy(settings))
        else:
            self._run.deploy(settings)

    def forge(self, _: str) -> None:
        """Send an event or a message about an account that was never a member, or a malformed one."""
        if self._random.random() < 0.5:
            self._run.schedule(0, "on_account_event", event(UNKNOWN_ACCOUNT))
            return
        body = write_message(Message(account_id=UNKNOWN_ACCOUNT, trigger=Trigger.EVENT))  # type: ignore[arg-type]
        bodies = (body, "{}", "not JSON", json.dumps({"account_id": "1"}))
        self._cloud.queues.accounts.put(self._random.choice(bodies))
