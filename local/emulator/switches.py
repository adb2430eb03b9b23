"""Settings that tests change at run time."""

from dataclasses import dataclass, field


@dataclass
class Switches:
    """The behavior of the local AWS from now on."""

    creation_seconds: float = 0.1
    ready_delay: float = 0.0
    drop_events: bool = False
    hidden_accounts: list[str] = field(default_factory=list)
    other_organization: list[str] = field(default_factory=list)

    throttle_every: int = 0
    iam_seconds: float = 0.0


SWITCHES = Switches()
