"""Bodies on the queue, JSON or not: handed back, or about an account that is looked up."""

from datetime import UTC, datetime, timedelta

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.errors import MessageError
from chalicelib.messages import Message, Trigger, read_message, write_message
from tests.integration.fuzzing.target import Target, World, work_once
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.cloud import START
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.strangers import DEPARTED, MEMBER, nobody_else_was_entered

_BELIEVED = timedelta(minutes=15)
_CLOCKS_DIFFER = timedelta(minutes=1)


def _run(world: World, body: str) -> None:
    stage = world.strangers.enrolled()
    # Whoever may send messages may make up a listing, which is believed for a while (docs/security.md): then access roles are
    # asked for, and AWS, which knows who is in the organization, refuses.
    listed = _listed(body, datetime.fromtimestamp(stage.cloud.now, UTC))
    stage.cloud.members.known.update(listed)
    stage.cloud.queues.accounts.put(body)
    work_once(stage)
    nobody_else_was_entered(stage, recorded=STRANGER in listed)


def _listed(body: str, now: datetime) -> set[str]:
    try:
        message = read_message(body)
    except MessageError:
        return set()
    if message.listed_at is None or not -_CLOCKS_DIFFER <= now - message.listed_at <= _BELIEVED:
        return set()
    return {message.account_id}


def _seeds() -> list[str]:
    now = datetime.fromtimestamp(START, UTC)
    messages = []
    for account_id in map(AccountId, (MEMBER, DEPARTED, STRANGER, MANAGEMENT)):
        account = Account(id=account_id, name="Name", state="ACTIVE", joined_at=now, ou_ids=("ou-ab12-11111111",))
        messages += [
            Message(account_id=account_id, trigger=Trigger.EVENT),
            Message(account_id=account_id, trigger=Trigger.RESYNC, account=account, listed_at=now),
        ]
    return [*map(write_message, messages), "not JSON", "{}", "[" * 5000, '{"account_id":' + "9" * 5000 + "}"]


MESSAGES = Target("messages", _run, _seeds, words=(*Trigger, "ACTIVE", "CLOSED", "SUSPENDED"), is_text=True)
