"""The expected authorization of readers, for the local AWS and for the independent evaluator."""

SOURCE_PRINCIPAL = "source principal"
OTHER_PRINCIPAL = "other principal of the source account"
CALLERS = (SOURCE_PRINCIPAL, OTHER_PRINCIPAL, "management account", "member account", "foreign account")
"""The principals that assume the member role. The policies of all but the source principal allow every AssumeRole."""

ENROLLED, SKIPPED, RETIRED, DEPARTED, FROZEN = "enrolled", "skipped", "retired", "departed", "frozen"
STATUSES = (ENROLLED, SKIPPED, RETIRED, DEPARTED, FROZEN)
"""The status of the account. In each there is a role with the member role's name and trust policy."""


def is_authorized(kind: str, caller: str, status: str) -> bool:
    """Whether a caller may assume the member role, for a source principal that is a role, a user or an account's root.

    With an account's root, that account's own policies decide: a principal there that may assume every role can
    assume each role that trusts the account.
    """
    if caller == SOURCE_PRINCIPAL:
        return status == ENROLLED
    return caller == OTHER_PRINCIPAL and kind == "root"
