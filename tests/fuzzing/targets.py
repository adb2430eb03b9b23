"""Every fuzz target by its name."""

from tests.fuzzing.on_documents import DOCUMENTS
from tests.fuzzing.on_events import EVENTS
from tests.fuzzing.on_messages import MESSAGES
from tests.fuzzing.on_requests import REQUESTS
from tests.fuzzing.on_rows import ROWS
from tests.fuzzing.on_settings import SETTINGS_TARGET
from tests.fuzzing.on_shards import SHARDS

TARGETS = {target.name: target for target in (EVENTS, MESSAGES, REQUESTS, ROWS, SHARDS, SETTINGS_TARGET, DOCUMENTS)}
