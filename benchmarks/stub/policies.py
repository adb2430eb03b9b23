"""IAM in the management account: the source principal and the managed policies."""

from dataclasses import dataclass, field
from urllib.parse import quote

from benchmarks.deployment import MANAGEMENT, SOURCE_PRINCIPAL, STAGE
from benchmarks.stub.response import Response, ServiceError, xml_response

_QUOTA = 25  # policies attached to one role
_MOST_VERSIONS = 5


@dataclass(slots=True)
class _Policy:
    versions: dict[int, str]
    attached: bool = False

    @property
    def newest(self) -> int:
        return max(self.versions)


@dataclass(slots=True)
class ManagementAccount:
    """The versions of each policy, and the number of writes of each."""

    policies: dict[str, _Policy] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    def handle(self, action: str, params: dict[str, str]) -> Response:
        """Return the response to a call in the management account."""
        if action == "GetRole":
            return xml_response(
                action,
                "<Role><Path>/</Path><RoleId>AROA1234567890EXAMPLE</RoleId><CreateDate>2026-01-01T00:00:00Z</CreateDate>"
                f"<RoleName>{params['RoleName']}</RoleName><Arn>arn:aws:iam::{MANAGEMENT}:role/{params['RoleName']}</Arn></Role>",
            )
        if action == "GetAccountSummary":
            quota = f"<entry><key>AttachedPoliciesPerRoleQuota</key><value>{_QUOTA}</value></entry>"
            return xml_response(action, f"<SummaryMap>{quota}</SummaryMap>")
        if action == "ListAttachedRolePolicies":
            attached = "".join(
                f"<member><PolicyName>{arn.rpartition('/')[2]}</PolicyName><PolicyArn>{arn}</PolicyArn></member>"
                for arn, policy in self.policies.items()
                if policy.attached
            )
            return xml_response(
                action, f"<IsTruncated>false</IsTruncated><AttachedPolicies>{attached}</AttachedPolicies>"
            )
        if action == "CreatePolicy":
            return self._create(params["PolicyName"], params["PolicyDocument"])
        arn = params["PolicyArn"]
        if arn not in self.policies:
            raise ServiceError("NoSuchEntity", 404)
        return self._on(action, arn, self.policies[arn], params)

    def _create(self, name: str, document: str) -> Response:
        arn = f"arn:aws:iam::{MANAGEMENT}:policy/{name}"
        if arn in self.policies:
            raise ServiceError("EntityAlreadyExists", 409)
        self.policies[arn] = _Policy({1: document})
        self.written[name] = self.written.get(name, 0) + 1
        return xml_response("CreatePolicy", f"<Policy><Arn>{arn}</Arn><DefaultVersionId>v1</DefaultVersionId></Policy>")

    def _on(self, action: str, arn: str, policy: _Policy, params: dict[str, str]) -> Response:
        match action:
            case "GetPolicy":
                return xml_response(action, _header(arn, policy))
            case "GetPolicyVersion":
                document = quote(policy.versions[_number(params["VersionId"])])
                version = f"<VersionId>{params['VersionId']}</VersionId><Document>{document}</Document>"
                return xml_response(action, f"<PolicyVersion>{version}</PolicyVersion>")
            case "ListEntitiesForPolicy":
                name = SOURCE_PRINCIPAL.rpartition("/")[2]
                role = f"<member><RoleName>{name}</RoleName><RoleId>AROA1234567890EXAMPLE</RoleId></member>"
                roles = f"<PolicyRoles>{role if policy.attached else ''}</PolicyRoles>"
                return xml_response(action, f"<IsTruncated>false</IsTruncated>{roles}<PolicyUsers/><PolicyGroups/>")
            case "CreatePolicyVersion":
                return self._write_version(arn, policy, params["PolicyDocument"])
            case "ListPolicyVersions":
                versions = "".join(
                    f"<member><VersionId>v{each}</VersionId><IsDefaultVersion>{str(each == policy.newest).lower()}"
                    "</IsDefaultVersion></member>"
                    for each in sorted(policy.versions, reverse=True)
                )
                return xml_response(action, f"<IsTruncated>false</IsTruncated><Versions>{versions}</Versions>")
            case "DeletePolicyVersion":
                del policy.versions[_number(params["VersionId"])]
                return xml_response(action)
            case "AttachRolePolicy" | "DetachRolePolicy":
                policy.attached = action == "AttachRolePolicy"
                return xml_response(action)
            case _:
                raise ServiceError("InvalidAction")

    def _write_version(self, arn: str, policy: _Policy, document: str) -> Response:
        if len(policy.versions) == _MOST_VERSIONS:
            raise ServiceError("LimitExceeded", 409)
        policy.versions[policy.newest + 1] = document
        name = arn.rpartition("/")[2]
        self.written[name] = self.written.get(name, 0) + 1
        version = f"<PolicyVersion><VersionId>v{policy.newest}</VersionId></PolicyVersion>"
        return xml_response("CreatePolicyVersion", version)


def _header(arn: str, policy: _Policy) -> str:
    tags = "".join(
        f"<member><Key>{key}</Key><Value>{value}</Value></member>"
        for key, value in (("managed-by", "rolecall"), ("rolecall-stage", STAGE))
    )
    return (
        f"<Policy><Arn>{arn}</Arn><DefaultVersionId>v{policy.newest}</DefaultVersionId>"
        f"<AttachmentCount>{int(policy.attached)}</AttachmentCount><Tags>{tags}</Tags></Policy>"
    )


def _number(version_id: str) -> int:
    return int(version_id.removeprefix("v"))
