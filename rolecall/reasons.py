"""What each reason is called, what it means and what to do about it; docs/runbook.md has the details."""

from chalicelib.errors import Reason
from rolecall.document_links import linked

TITLE = {
    Reason.EXCLUDED: "excluded by the settings",
    Reason.EXCLUDED_BY_TAG: "excluded by its tags",
    Reason.PENDING_ACTIVATION: "sign-up not complete",
    Reason.SUSPENDED: "suspended by AWS",
    Reason.PENDING_CLOSURE: "being closed",
    Reason.CLOSED: "closed",
    Reason.DEPARTED: "not in the organization",
    Reason.RETIRED_BY_REQUEST: "retired by an operator",
    Reason.UNINSTALLED: "stage being uninstalled",
    Reason.NOT_READY: "new account, not set up yet",
    Reason.NO_ACCESS_ROLE: "no access role",
    Reason.ACCESS_DENIED: "call denied",
    Reason.SCP_DENIED: "denied by a service control policy",
    Reason.RCP_DENIED: "denied by a resource control policy",
    Reason.FOREIGN_ROLE: "foreign role with the same name",
    Reason.FOREIGN_SOURCE_POLICY: "foreign policy with the same name",
    Reason.NO_SOURCE_PRINCIPAL: "missing source principal",
    Reason.NO_SUCH_POLICY: "missing policy or boundary",
    Reason.QUOTA: "quota reached",
    Reason.INSTANCE_PROFILE: "role in an instance profile",
    Reason.REJECTED: "call rejected by AWS",
    Reason.THROTTLED: "throttled by AWS",
    Reason.SERVICE_ERROR: "AWS error or timeout",
    Reason.STALE_READ: "inconsistent results from IAM",
    Reason.SOURCE_POLICY_PENDING: "source policy not updated yet",
    Reason.NAMES_CHANGED: "names in the settings changed",
    Reason.EXTERNAL_ID_REQUIRED: "external id missing",
    Reason.CONFLICT: "concurrent update",
    Reason.OUT_OF_TIME: "function out of time",
    Reason.UNEXPECTED: "unexpected error",
}
"""The reason in a few words, as part of a sentence."""

MEANING = {
    Reason.EXCLUDED: "The account is excluded by the settings.",
    Reason.EXCLUDED_BY_TAG: "The account has a tag of ExcludeTags, or none of IncludeTags.",
    Reason.PENDING_ACTIVATION: "The account's sign-up is not complete.",
    Reason.SUSPENDED: "AWS suspended the account.",
    Reason.PENDING_CLOSURE: "The account is being closed.",
    Reason.CLOSED: "The account is closed; AWS deletes it after 90 days.",
    Reason.DEPARTED: "The account is not in the organization: it left, or was closed and deleted.",
    Reason.RETIRED_BY_REQUEST: "An operator retired the account; sweeps don't enroll it again.",
    Reason.UNINSTALLED: "The stage is being uninstalled; no account is enrolled.",
    Reason.NOT_READY: "The account is new; AWS takes minutes to set it up.",
    Reason.NO_ACCESS_ROLE: "No access role could be assumed: it is missing, has another name, or doesn't trust the management account.",
    Reason.ACCESS_DENIED: "A call was denied, and AWS named neither a service nor a resource control policy.",
    Reason.SCP_DENIED: "A service control policy denies a call in the account.",
    Reason.RCP_DENIED: "A resource control policy denies assuming the access role, or a call after it.",
    Reason.FOREIGN_ROLE: "A role with this name already exists and isn't managed by this stage; it was left untouched.",
    Reason.FOREIGN_SOURCE_POLICY: "A policy with the source policy's name exists and isn't managed by this stage; no account can be enrolled.",
    Reason.NO_SOURCE_PRINCIPAL: "A source principal doesn't exist, so the source policy can't be attached to it.",
    Reason.NO_SUCH_POLICY: "A policy of MemberRolePolicyArns, or the boundary, doesn't exist in the account.",
    Reason.QUOTA: "An IAM quota is reached in the account or the source account, or the source policy is full.",
    Reason.INSTANCE_PROFILE: "The member role is in an instance profile, so IAM doesn't delete it.",
    Reason.REJECTED: "AWS rejected a call for a reason that has no category of its own.",
    Reason.THROTTLED: "Throttled by AWS.",
    Reason.SERVICE_ERROR: "AWS failed or didn't answer in time.",
    Reason.STALE_READ: "IAM returned inconsistent results, as it does for seconds after a change.",
    Reason.SOURCE_POLICY_PENDING: "The source policy in IAM doesn't match the ledger yet; publish updates it. In scope none: the member role is still to be deleted.",
    Reason.NAMES_CHANGED: "MemberRoleName, SourcePolicyName or the source account differs from the one that accounts were enrolled with.",
    Reason.EXTERNAL_ID_REQUIRED: "A source principal's account is not in the organization, and the stage has no external id.",
    Reason.CONFLICT: "Another worker wrote the account's row at the same time.",
    Reason.OUT_OF_TIME: "The function's time ran out before this account.",
    Reason.UNEXPECTED: "Unexpected error: a bug in Rolecall.",
}

_RERUN = "; then rolecall rerun"

_REMEDY = {
    Reason.EXCLUDED: "Nothing; if you change the setting, the next resync enrolls it.",
    Reason.EXCLUDED_BY_TAG: "Nothing; if you change its tags, it is enrolled within a minute.",
    Reason.PENDING_ACTIVATION: "Complete the sign-up; the next resync enrolls the account.",
    Reason.SUSPENDED: "Resolve it with AWS Support; the next resync enrolls the account again.",
    Reason.PENDING_CLOSURE: "Nothing; if it is reinstated, the next resync enrolls it again.",
    Reason.CLOSED: "Nothing; if it is reinstated, the next resync enrolls it again.",
    Reason.DEPARTED: "If the account still exists, delete the member role with credentials of the account.",
    Reason.RETIRED_BY_REQUEST: "Nothing; if a role is left, retire it again. To enroll it again: rolecall enroll ID.",
    Reason.UNINSTALLED: "Continue with rolecall uninstall, or cancel with rolecall backfill.",
    Reason.NOT_READY: "Wait: it is retried, and enrolled once the account is set up.",
    Reason.NO_ACCESS_ROLE: f"Create an access role (docs/access-roles.md), restore its trust, or add its name to AccessRoleNames{_RERUN}.",
    Reason.ACCESS_DENIED: f"Grant the permission that the error names{_RERUN}.",
    Reason.SCP_DENIED: f"Exempt the access role from the statement that denies it, as docs/scp-protect-member-role.json does{_RERUN}.",
    Reason.RCP_DENIED: f"Exempt principals of the management account in that policy{_RERUN}.",
    Reason.FOREIGN_ROLE: f"Delete it, set another MemberRoleName, or adopt it (docs/coming-from.md){_RERUN}.",
    Reason.FOREIGN_SOURCE_POLICY: f"Delete that policy, or uninstall and set another SourcePolicyName{_RERUN}.",
    Reason.NO_SOURCE_PRINCIPAL: f"Create it, correct SourcePrincipalArns, or set AttachSourcePolicy=false and attach the shards yourself{_RERUN}.",
    Reason.NO_SUCH_POLICY: f"Create it in every account, or correct the setting{_RERUN}.",
    Reason.QUOTA: f"Free capacity, or request an increase of the quota that the error names{_RERUN}.",
    Reason.INSTANCE_PROFILE: "Remove the role from its instance profile, as the runbook shows; then rolecall retire ID, again.",
    Reason.REJECTED: f"Fix what the error describes{_RERUN}.",
    Reason.THROTTLED: "Nothing: it is retried. If it persists, lower MaximumConcurrency or Threads.",
    Reason.SERVICE_ERROR: "Nothing: it is retried.",
    Reason.STALE_READ: "Nothing: it is retried.",
    Reason.SOURCE_POLICY_PENDING: "Nothing: publish is retried. If it persists, rolecall status shows why; in scope none, the account's last error.",
    Reason.NAMES_CHANGED: f"Restore the parameter, uninstall first, or deploy a second stage{_RERUN}.",
    Reason.EXTERNAL_ID_REQUIRED: f"Set ExternalId to the one that the reader gives you, or correct SourcePrincipalArns{_RERUN}.",
    Reason.CONFLICT: "Nothing: it is retried.",
    Reason.OUT_OF_TIME: "Nothing: it is retried. If it recurs, lower BatchSize or raise Threads.",
    Reason.UNEXPECTED: "Report it with the traceback from the log of enroll; it is retried.",
}
REMEDY = {reason: linked(text) for reason, text in _REMEDY.items()}


def runbook_section(reason: Reason) -> str:
    """Return the runbook's section about a reason."""
    return linked(f"docs/runbook.md#{reason}")
