"""Every fuzz target by its name."""

from tests.integration.fuzzing.documents_target import DOCUMENTS
from tests.integration.fuzzing.events_target import EVENTS
from tests.integration.fuzzing.messages_target import MESSAGES
from tests.integration.fuzzing.requests_target import REQUESTS
from tests.integration.fuzzing.rows_target import ROWS
from tests.integration.fuzzing.settings_target import SETTINGS_TARGET
from tests.integration.fuzzing.shards_target import SHARDS

TARGETS = {target.name: target for target in (EVENTS, MESSAGES, REQUESTS, ROWS, SHARDS, SETTINGS_TARGET, DOCUMENTS)}
