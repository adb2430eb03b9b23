"""Write the list of AWS's actions that the command line ships: those that only read, and all others.

    python -m verify.iam_actions            # writes rolecall/iam_actions.txt

Parliament has the access levels of the Service Authorization Reference. Actions that it lacks are from botocore's models and from
AWS's own policies of reads, and count as reads only if their names do. Of what the reference calls a read, some act (InvokeAgent,
UseConnection) or return credentials of others (AssumeRoleForPodIdentity): these count as reads only if AWS's own policies allow
them, or the deny of data reads denies them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from moto.iam.aws_managed_policies import aws_managed_policies_data

from chalicelib.data_read_denies import DENIED_DATA_READS
from rolecall import iam_actions
from verify.data_reads import action_of, allowed_actions, service_models

LIST = Path(iam_actions.__file__).with_suffix(".txt")

_POLICIES_OF_READS = ("ReadOnlyAccess", "SecurityAudit", "ViewOnlyAccess")
_LEVELS_OF_READS = {"Read", "List"}
_NAME = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")
_READ = re.compile(r"[a-z0-9-]+:(Batch)?(Get|List|Describe|Search|Query|Head|View)[A-Z]")
_READ_VERB = re.compile(
    r"[a-z0-9-]+:(Admin|Batch)?(Calculate|Check|Count|Describe|Detect|Discover|Download|Estimate|Evaluate|Export|Filter|Generate|Get|"
    r"Has|Head|Is|List|Lookup|Preview|Query|Read|Render|Retrieve|Scan|Search|Select|Simulate|Test|Validate|Verify|View)",
    re.IGNORECASE,
)
# They allow more than the caller may do, or uploads. The tokens that are left out have the caller's own permissions.
_CREDENTIALS = re.compile(
    r"[a-z0-9-]+:Get(?!AuthorizationToken$|ServiceBearerToken$|SessionToken$)\w*(Credentials|Token|AccessKeys|EmbedUrl|UploadUrl|DataAccess)(For\w+)?$"
    r"|[a-z0-9-]+:GetSessionEndpoint$|s3express:CreateSession$"
)
# Of what the reference counts as tagging or management of permissions, these only show tags and permissions.
_SHOWN = re.compile(r"[a-z0-9-]+:(Get|List|Describe)(?!.*Url)")


@cache
def botocore_actions() -> frozenset[str]:
    """Return the actions that botocore's operations need."""
    return frozenset(action_of(model, name) for model in service_models() for name in model.operation_names)


def actions() -> dict[str, bool]:
    """Return every known action, and whether it only reads."""
    policies = json.loads(aws_managed_policies_data)
    reads = {action for name in _POLICIES_OF_READS for action in allowed_actions(policies[name]["Document"])}
    found = dict(_reference())
    known = {action.lower() for action in found}
    newer = {action: True for action in {*reads, *DENIED_DATA_READS} if _NAME.fullmatch(action)}
    newer = {action: bool(_READ.match(action)) for action in botocore_actions() if _NAME.fullmatch(action)} | newer
    for action in sorted(newer):
        if action.lower() not in known:
            known.add(action.lower())
            found[action] = newer[action]
    return {action: is_read and _only_reads(action, reads) for action, is_read in sorted(found.items())}


def _only_reads(action: str, allowed: Collection[str]) -> bool:
    """Whether an action that counts as a read only reads, and returns no credentials of others."""
    is_credential = _CREDENTIALS.match(action) is not None
    if action in DENIED_DATA_READS or (_READ_VERB.match(action) and not is_credential):
        return not is_credential
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in allowed)


def _reference() -> Iterator[tuple[str, bool]]:
    found = find_spec("parliament")  # whose import warns
    if found is None or found.origin is None:
        raise FileNotFoundError("parliament is not installed: pip install -r requirements-dev.txt")
    content = json.loads(Path(found.origin).with_name("iam_definition.json").read_text())
    for service in content:
        for privilege in service["privileges"]:
            action, level = f"{service['prefix']}:{privilege['privilege'].strip()}", privilege["access_level"]
            yield action, level in _LEVELS_OF_READS or (level != "Write" and bool(_SHOWN.match(action)))


def written() -> str:
    """Return the list: a line for each service, with its reads and, after a bar, all other actions."""
    services: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for action, only_reads in actions().items():
        service, _, name = action.partition(":")
        services[service][0 if only_reads else 1].append(name)
    return "".join(
        f"{service}: {' '.join(reads)} | {' '.join(others)}\n" for service, (reads, others) in sorted(services.items())
    )


if __name__ == "__main__":
    LIST.write_text(written())
