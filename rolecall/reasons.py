"""What each reason means and what to do about it, one short sentence each; docs/runbook.md says more, and how to look."""

from chalicelib.errors import Reason

MEANING = {
    Reason.EXCLUDED: "The settings leave this account out.",
    Reason.PENDING_ACTIVATION: "The account's sign-up was never completed.",
    Reason.SUSPENDED: "AWS suspended the account.",
    Reason.PENDING_CLOSURE: "Somebody is closing the account.",
    Reason.CLOSED: "The account is closed, and gone after 90 days.",
    Reason.DEPARTED: "Organizations doesn't know the account: it left, or is closed and gone.",
    Reason.RETIRED_BY_REQUEST: "An operator retired the account, and no sweep enrolls it again.",
    Reason.UNINSTALLED: "Everything is being uninstalled, and no account is enrolled.",
    Reason.NOT_READY: "The account is new, and AWS takes minutes to set it up.",
    Reason.NO_ACCESS_ROLE: "None of the access roles could be assumed: missing, named otherwise, or not trusting the management account.",
    Reason.ACCESS_DENIED: "A call was denied, and not by a service or resource control policy as far as AWS tells.",
    Reason.SCP_DENIED: "A service control policy denies a call in the account.",
    Reason.RCP_DENIED: "A resource control policy denies assuming the access role, or a call after it.",
    Reason.FOREIGN_ROLE: "A role of the member role's name is there that this stage doesn't own; it was left untouched.",
    Reason.FOREIGN_SOURCE_POLICY: "A policy of the source policy's name is there that this stage doesn't own, so no account can be enrolled.",
    Reason.NO_SOURCE_PRINCIPAL: "A source principal doesn't exist, so nothing can be attached to it.",
    Reason.NO_SUCH_POLICY: "A policy of MemberRolePolicyArns, or the boundary, doesn't exist in the account.",
    Reason.QUOTA: "An IAM quota is reached in the account or the source account, or the source policy is full.",
    Reason.INSTANCE_PROFILE: "The member role is in an instance profile, so IAM doesn't delete it.",
    Reason.REJECTED: "AWS refused a call for a reason that has no word of its own.",
    Reason.THROTTLED: "AWS asked for fewer calls.",
    Reason.SERVICE_ERROR: "AWS failed, didn't answer in time, or asked to come back.",
    Reason.STALE_READ: "IAM's answers contradict each other, as they do for seconds after a change.",
    Reason.SOURCE_POLICY_PENDING: "The source policy in IAM doesn't follow the ledger yet: publish is still to write it.",
    Reason.NAMES_CHANGED: "MemberRoleName, SourcePolicyName or the source account is not the one that accounts were enrolled under.",
    Reason.CONFLICT: "Another worker recorded the account meanwhile.",
    Reason.OUT_OF_TIME: "The function's time ran out before the account's turn.",
    Reason.UNEXPECTED: "A fault in Rolecall.",
}

_AGAIN = "; then rolecall rerun"

REMEDY = {
    Reason.EXCLUDED: "Nothing; or change the setting, and the next resync enrolls it.",
    Reason.PENDING_ACTIVATION: "Complete the sign-up; the next resync enrolls the account.",
    Reason.SUSPENDED: "Settle it with AWS; the next resync enrolls the account again.",
    Reason.PENDING_CLOSURE: "Nothing; if it is reinstated, the next resync enrolls it again.",
    Reason.CLOSED: "Nothing; if it is reinstated, the next resync enrolls it again.",
    Reason.DEPARTED: "If the account lives on, delete the member role there by hand, from within.",
    Reason.RETIRED_BY_REQUEST: "Nothing; or retire it again if a role is left, or name it to rolecall enroll to have it back.",
    Reason.UNINSTALLED: "Go on with rolecall uninstall, or change your mind with rolecall backfill.",
    Reason.NOT_READY: "Wait: it is tried again, and enrolled once AWS is done.",
    Reason.NO_ACCESS_ROLE: f"Create an access role (docs/access-roles.md), restore its trust, or add its name to AccessRoleNames{_AGAIN}.",
    Reason.ACCESS_DENIED: f"Give the permission that the error names{_AGAIN}.",
    Reason.SCP_DENIED: f"Exempt the access role from the statement that denies it, as docs/scp-protect-member-role.json does{_AGAIN}.",
    Reason.RCP_DENIED: f"Let principals of the management account through in that policy{_AGAIN}.",
    Reason.FOREIGN_ROLE: f"Delete or rename it, set another MemberRoleName, or have Rolecall adopt it with AdoptExistingRoles=true{_AGAIN}.",
    Reason.FOREIGN_SOURCE_POLICY: f"Delete or rename that policy, or uninstall and set another SourcePolicyName{_AGAIN}.",
    Reason.NO_SOURCE_PRINCIPAL: f"Create it, correct SourcePrincipalArns, or set AttachSourcePolicy=false and attach the shards yourself{_AGAIN}.",
    Reason.NO_SUCH_POLICY: f"Create it in every account, or correct the setting{_AGAIN}.",
    Reason.QUOTA: f"Make room or have the quota that the error names raised{_AGAIN}.",
    Reason.INSTANCE_PROFILE: f"Remove the role from the instance profile that the error names{_AGAIN}.",
    Reason.REJECTED: f"Do what the error says{_AGAIN}.",
    Reason.THROTTLED: "Nothing: it is tried again; if it lasts, lower MaximumConcurrency or Threads.",
    Reason.SERVICE_ERROR: "Nothing: it is tried again.",
    Reason.STALE_READ: "Nothing: it is tried again.",
    Reason.SOURCE_POLICY_PENDING: "Nothing: publish is retried; if it lasts, rolecall status shows why.",
    Reason.NAMES_CHANGED: f"Set the parameter back, uninstall first, or deploy a second stage beside this one{_AGAIN}.",
    Reason.CONFLICT: "Nothing: it is tried again.",
    Reason.OUT_OF_TIME: "Nothing: it is tried again; if it recurs, lower BatchSize or raise Threads.",
    Reason.UNEXPECTED: "Report it, with the traceback in the log of enroll; it is tried again.",
}


def more(reason: Reason) -> str:
    """Say where the runbook tells more."""
    return f"docs/runbook.md#{reason}"
