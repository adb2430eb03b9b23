"""The settings, checked together with the policies that are built from them: by the functions at their start, and before a deployment."""

from collections.abc import Mapping

from chalicelib import member_role, session_policies
from chalicelib.errors import SettingsError
from chalicelib.settings import Settings
from chalicelib.source_policy import documents


def checked_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings; raise SettingsError if some are wrong, or if policies built from them would exceed AWS's limits."""
    settings = Settings.from_env(environ)
    problems: list[str] = []
    for check in (member_role.check_sizes, session_policies.check_sizes, documents.check_sizes):
        try:
            check(settings)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(*problems)
    return settings
