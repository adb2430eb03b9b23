"""What tests turn at run time."""

from dataclasses import dataclass


@dataclass
class Switches:
    """How the organization behaves from now on."""

    creation_seconds: float = 0.1
    ready_delay: float = 0.0
    drop_events: bool = False


SWITCHES = Switches()
