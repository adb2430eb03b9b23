"""Who is to be let in where: the law that IAM's evaluators are held to."""

SOURCE_PRINCIPAL = "source principal"
ANOTHER = "another principal of the source account"
CALLERS = (SOURCE_PRINCIPAL, ANOTHER, "management account", "member account", "foreign account")
"""Who asks. All but the source principal may assume any role at all, as far as their own policies go."""

ENROLLED, SKIPPED, RETIRED, DEPARTED, FROZEN = "enrolled", "skipped", "retired", "departed", "frozen"
STANDINGS = (ENROLLED, SKIPPED, RETIRED, DEPARTED, FROZEN)
"""Where the account stands; in each there is a role of the member role's name with its trust, whoever put it there."""


def is_to_be_let_in(kind: str, caller: str, standing: str) -> bool:
    """Say it for a source principal that is a role, a user or an account's root.

    The root leaves it to its account's own policies who reads, so there one with a permission of its own goes wherever a role
    trusts that account.
    """
    if caller == SOURCE_PRINCIPAL:
        return standing == ENROLLED
    return caller == ANOTHER and kind == "root"
