"""What can be exported, apart from `export`, which needs more to be imported."""

from enum import StrEnum


class Tool(StrEnum):
    """What can be written: a tool's configuration, or a list for scripts."""

    AWS_CONFIG = "aws-config"
    CLOUDQUERY = "cloudquery"
    STEAMPIPE = "steampipe"
    PROWLER = "prowler"
    PROWLER_MUTELIST = "prowler-mutelist"
    PROWLER_BULK = "prowler-bulk"
    C7N_ORG = "c7n-org"
    JSON = "json"
    ARNS = "arns"


class Names(StrEnum):
    """What accounts are called in the configuration."""

    NAMES = "names"
    IDS = "ids"
