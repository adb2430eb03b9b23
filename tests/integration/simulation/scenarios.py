"""Every scenario by its name."""

from tests.integration.simulation.account_scenarios import ACCOUNT_SCENARIOS
from tests.integration.simulation.freeze_scenarios import FREEZE_SCENARIOS
from tests.integration.simulation.loss_scenarios import LOSS_SCENARIOS
from tests.integration.simulation.publish_scenarios import PUBLISH_SCENARIOS
from tests.integration.simulation.rollout_scenarios import ROLLOUT_SCENARIOS
from tests.integration.simulation.scope_none_scenarios import SCOPE_NONE_SCENARIOS

SCENARIOS = {
    **ACCOUNT_SCENARIOS,
    **PUBLISH_SCENARIOS,
    **LOSS_SCENARIOS,
    **FREEZE_SCENARIOS,
    **ROLLOUT_SCENARIOS,
    **SCOPE_NONE_SCENARIOS,
}
