"""The drifts of a member role: edits by hand."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.integration.simulation.iam import EMPTY_DOCUMENT, Role

ROLE_DRIFTS: Mapping[str, Callable[[Role], Role]] = {
    "another trust policy": lambda role: replace(role, trust=EMPTY_DOCUMENT),
    "longer session": lambda role: replace(role, max_session=3601),
    "nothing attached": lambda role: replace(role, attached=frozenset()),
    "another policy attached": lambda role: replace(
        role, attached=role.attached | {"arn:aws:iam::aws:policy/ViewOnlyAccess"}
    ),
    "another inline policy": lambda role: replace(role, inline=frozenset({("Theirs", "{}")})),
    "other documents": lambda role: replace(role, inline=frozenset((name, "{}") for name, _ in role.inline)),
    "another boundary": lambda role: replace(role, boundary="arn:aws:iam::aws:policy/SecurityAudit"),
    "more tags": lambda role: replace(role, tags=role.tags | {("cost", "center")}),
    "no tags": lambda role: replace(role, tags=frozenset()),
}
