"""Bodies on the accounts queue, JSON or not: returned to the queue, or about an account that is checked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.errors import MessageError
from chalicelib.messages import Message, Trigger, read_message, write_message
from tests.integration.fuzzing.target import Target, deliver_once
from tests.integration.simulation.cloud import START
from tests.integration.simulation.example_stages import DEPARTED, MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.members import MANAGEMENT, UNKNOWN_ACCOUNT

_LISTING_VALID = timedelta(minutes=15)
_MAX_CLOCK_SKEW = timedelta(minutes=1)


def _run(stages: ExampleStages, body: str) -> None:
    stage = stages.enrolled()
    # A sender of messages may forge a listing, which is used for a while (docs/security.md): then the access role is
    # requested, and AWS denies it outside the organization.
    listed = _listed(body, datetime.fromtimestamp(stage.cloud.now, UTC))
    stage.cloud.members.confirmed.update(listed)
    stage.cloud.queues.accounts.put(body)
    deliver_once(stage)
    check_unknown_account(stage, recorded=UNKNOWN_ACCOUNT in listed)


def _listed(body: str, now: datetime) -> set[str]:
    try:
        message = read_message(body)
    except MessageError:
        return set()
    if message.listed_at is None or not -_MAX_CLOCK_SKEW <= now - message.listed_at <= _LISTING_VALID:
        return set()
    return {message.account_id}


def _seeds() -> list[str]:
    now = datetime.fromtimestamp(START, UTC)
    messages = []
    for account_id in map(AccountId, (MEMBER, DEPARTED, UNKNOWN_ACCOUNT, MANAGEMENT)):
        account = Account(id=account_id, name="Name", state="ACTIVE", joined_at=now, ou_ids=("ou-ab12-11111111",))
        messages += [
            Message(account_id=account_id, trigger=Trigger.EVENT),
            Message(account_id=account_id, trigger=Trigger.RESYNC, account=account, listed_at=now),
            Message(account_id, Trigger.BACKFILL, replace(account, tags={"env": "prod", "team": None}), now),
        ]
    return [*map(write_message, messages), "not JSON", "{}", "[" * 5000, '{"account_id":' + "9" * 5000 + "}"]


MESSAGES = Target("messages", _run, _seeds, words=(*Trigger, "ACTIVE", "CLOSED", "SUSPENDED"), is_text=True)
