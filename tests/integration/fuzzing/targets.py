"""Every fuzz target by its name."""

from tests.integration.fuzzing.on_documents import DOCUMENTS
from tests.integration.fuzzing.on_events import EVENTS
from tests.integration.fuzzing.on_messages import MESSAGES
from tests.integration.fuzzing.on_requests import REQUESTS
from tests.integration.fuzzing.on_rows import ROWS
from tests.integration.fuzzing.on_settings import SETTINGS_TARGET
from tests.integration.fuzzing.on_shards import SHARDS

TARGETS = {target.name: target for target in (EVENTS, MESSAGES, REQUESTS, ROWS, SHARDS, SETTINGS_TARGET, DOCUMENTS)}
