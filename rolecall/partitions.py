"""What differs between AWS's partitions: the region of the organization's events, and how accounts are added."""

EVENT_REGIONS = {
    "aws": "us-east-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-cn": "cn-northwest-1",
    "aws-eusc": "eusc-de-east-1",
}
"""The region of each supported partition in which Organizations delivers events."""


def add_account_arguments(partition: str, name: str = "…", email: str = "…") -> str:
    """Return the arguments of the AWS CLI that add an account to the organization.

    In GovCloud, it is invited: CreateGovCloudAccount creates it in the partition aws ("AWS Organizations API Reference").
    """
    if partition == "aws-us-gov":
        return "organizations invite-account-to-organization --target Type=ACCOUNT,Id=…"
    return f"organizations create-account --account-name {name} --email {email}"
