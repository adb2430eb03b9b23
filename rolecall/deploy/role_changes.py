"""What a deployment changes in the member roles: in how many accounts, how, and how many at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from chalicelib.accounts import Outcome
from chalicelib.errors import SettingsError
from chalicelib.member_role import (
    ANY_ACCOUNT,
    Action,
    AttachPolicy,
    DeleteInlinePolicy,
    DetachPolicy,
    MemberRole,
    PutInlinePolicy,
    SetBoundary,
    SetMaxSession,
    SetTrust,
    TagRole,
    desired_role,
    fingerprint,
    plan,
    restricts,
)
from chalicelib.rollout import AT_ONCE, wave_size
from chalicelib.settings import Settings
from rolecall.console import counted, printable
from rolecall.deploy.location import Location
from rolecall.deploy.parameters import environment, known_values, merge_parameters
from rolecall.deploy.tables import Tables


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleChanges:
    """The number of roles that are outdated with the new settings, and the actions from the former role, if known."""

    outdated: int
    roles: int
    percent: int
    former: MemberRole | None
    actions: tuple[Action, ...]

    @property
    def restricts(self) -> bool:
        """Whether an action may only take permissions away."""
        return any(restricts(action, self.former) for action in self.actions)


def read_role_changes(
    template: Mapping[str, Any], values: Mapping[str, Any], kept: Mapping[str, str], location: Location, tables: Tables
) -> RoleChanges | None:
    """Return what the new settings change of the roles in the ledger, or None if there is no ledger yet."""
    if not tables.exists(values["LedgerTable"]):
        return None
    settings = Settings.from_env(environment(template, values))
    former = _former_role(template, kept, location) if kept else None
    rows = tables.items(values["LedgerTable"], "outcome", "fingerprint", "attempted_fingerprint")
    return count_roles(rows, settings, former)


def _former_role(template: Mapping[str, Any], kept: Mapping[str, str], location: Location) -> MemberRole | None:
    """Return the role of the deployed parameters."""
    deployed = known_values(template, merge_parameters(template["Parameters"], {}, kept), location)
    try:
        return desired_role(Settings.from_env(environment(template, deployed)), ANY_ACCOUNT)
    except SettingsError:  # of an earlier release, which allowed other values
        return None


def count_roles(rows: Iterable[Mapping[str, Any]], settings: Settings, former: MemberRole | None) -> RoleChanges:
    """Count the roles of enrolled accounts, and of those in which a change of settings failed."""
    actions = plan(former, desired_role(settings, ANY_ACCOUNT)) if former is not None else ()
    new, outdated, roles = fingerprint(settings), 0, 0
    for row in rows:
        made_for, attempted = row["fingerprint"], row["attempted_fingerprint"]
        if row["outcome"] == Outcome.ENROLLED:
            roles += 1
            # What a row of an earlier release was made for is unknown: as far as the parameters show, for the deployed ones.
            outdated += bool(actions) if made_for is None else made_for != new
        elif row["outcome"] == Outcome.FAILED and attempted is not None:
            roles += 1
            outdated += 1
    return RoleChanges(outdated=outdated, roles=roles, percent=settings.rollout_percent, former=former, actions=actions)


def role_lines(changes: RoleChanges) -> Iterator[Text]:
    """Yield what is changed in how many accounts, and when all of them have it."""
    if not changes.outdated:
        return
    how = "; ".join(map(_words, changes.actions)) or "made for other settings or by another release"
    yield Text(f"  ~ the member role in {counted(changes.outdated, 'account')}: {printable(how)}", "yellow")
    if changes.percent == AT_ONCE:
        yield Text("    by the next resync, all at once: rolecall resync", "yellow")
        return
    size = wave_size(changes.roles, changes.percent)
    waves = -(-changes.outdated // size)
    yield Text(
        f"    in {counted(waves, 'wave')} of at most {counted(size, 'account')} (RolloutPercent={changes.percent}); each resync, hourly "
        "ones too, starts the next",
        "yellow",
    )
    if changes.restricts and waves > 1:
        yield Text(
            f"    ! what restricts the role is in force in every account only after {waves} waves; to restrict all accounts with the "
            "next resync, set RolloutPercent=100",
            "bold yellow",
        )


def _words(action: Action) -> str:
    """Return an action in words, for any account."""
    match action:
        case AttachPolicy(arn):
            words = f"attach {arn}"
        case DetachPolicy(arn):
            words = f"detach {arn}"
        case PutInlinePolicy(name, _):
            words = f"write inline policy {name}"
        case DeleteInlinePolicy(name):
            words = f"delete inline policy {name}"
        case SetTrust():
            words = "replace the trust policy"
        case SetMaxSession(seconds):
            words = f"set the longest session to {seconds} seconds"
        case SetBoundary(boundary):
            words = f"set the permissions boundary {boundary}" if boundary else "remove the permissions boundary"
        case TagRole():
            words = "set the tags"
        case _:
            words = type(action).__name__
    return words.replace(ANY_ACCOUNT, "{account_id}")
