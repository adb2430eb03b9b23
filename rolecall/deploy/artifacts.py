"""The bucket from which CloudFormation and Lambda read the template and the functions' code: checked, created and filled."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.deploy.location import Location
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.problems import Problems

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType

_NOT_FOUND = {"404", "NoSuchBucket", "NotFound", "NoSuchKey"}
_ELSEWHERE = {"301", "PermanentRedirect", "400"}  # HEAD has no body, and so only the status
_OLD_VERSION_DAYS = 90
_UNFINISHED_UPLOAD_DAYS = 7


def default_bucket(location: Location) -> str:
    """Return the name of the bucket that is created if none is named."""
    return f"rolecall-artifacts-{location.account_id}-{location.region}"


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A bucket of the account. Objects are named by the digests of their contents, so that none is uploaded twice."""

    s3: "S3Client"
    location: Location
    bucket: str

    @classmethod
    def connect(cls, client: ClientFactory, location: Location, bucket: str | None) -> "Artifacts":
        """Return the named bucket, or the default one."""
        return cls(client("s3"), location, bucket or default_bucket(location))

    @property
    def is_default(self) -> bool:
        """Whether this is the bucket that is created if it doesn't exist."""
        return self.bucket == default_bucket(self.location)

    def exists(self) -> bool:
        """Whether the bucket exists. Raise CommandError if this account may not use it."""
        with translate_errors(f"reading bucket {self.bucket}"):
            return self._region() is not None

    def _region(self) -> str | None:
        """Return the region of the bucket, or None if it doesn't exist."""
        try:
            found = self.s3.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=self.location.account_id)
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_FOUND:
                return None
            raise
        # botocore follows the redirect to the bucket's region.
        return found.get("BucketRegion") or self.location.region

    def check(self, problems: Problems) -> None:
        """Add a problem if the bucket can't be used."""
        region = self.location.region
        with problems.collect(), translate_errors(f"reading bucket {self.bucket}"):
            try:
                found = self._region()
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in {"403", "AccessDenied"}:
                    problems.add(
                        f"bucket {self.bucket} is another account's, or these credentials may not read it",
                        "pass --bucket with a bucket of this account, or use credentials with s3:ListBucket",
                    )
                    return
                if code in _ELSEWHERE:
                    found = "another region"
                else:
                    raise
            if found is None and not self.is_default:
                problems.add(
                    f"bucket {self.bucket} does not exist", "create it, or leave --bucket out to have one created"
                )
            elif found not in {None, region}:
                problems.add(f"bucket {self.bucket} is in {found}", f"pass --bucket with a bucket in {region}")

    def create(self) -> None:
        """Create the default bucket, or finish its set-up after an interruption: its policy is the last step."""
        with translate_errors(f"creating bucket {self.bucket}"):
            if self._region() is None:
                self._create()
            elif self._has_policy():
                return
            self._set_up()

    def _create(self) -> None:
        region = self.location.region
        if region == "us-east-1":  # is the default, which S3 rejects as a constraint
            self.s3.create_bucket(Bucket=self.bucket)
            return
        constraint: BucketLocationConstraintType = region  # type: ignore[assignment] # the stubs list the regions
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": constraint})

    def _has_policy(self) -> bool:
        try:
            self.s3.get_bucket_policy(Bucket=self.bucket, ExpectedBucketOwner=self.location.account_id)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucketPolicy":
                return False
            raise
        return True

    def _set_up(self) -> None:
        """Make the bucket private, encrypted and versioned, with a lifecycle, readable over TLS only."""
        own: dict[str, Any] = {"Bucket": self.bucket, "ExpectedBucketOwner": self.location.account_id}
        self.s3.put_public_access_block(
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
            **own,
        )
        self.s3.put_bucket_encryption(
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
            **own,
        )
        self.s3.put_bucket_versioning(VersioningConfiguration={"Status": "Enabled"}, **own)
        # Current versions never expire: CloudFormation needs the former code to roll an update back.
        self.s3.put_bucket_lifecycle_configuration(
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "leftovers",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "NoncurrentVersionExpiration": {"NoncurrentDays": _OLD_VERSION_DAYS},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_UPLOAD_DAYS},
                    }
                ]
            },
            **own,
        )
        self.s3.put_bucket_tagging(Tagging={"TagSet": [{"Key": "managed-by", "Value": "rolecall"}]}, **own)
        self.s3.put_bucket_policy(Policy=json.dumps(self._policy()), **own)

    def _policy(self) -> dict[str, Any]:
        arn = f"arn:{self.location.partition}:s3:::{self.bucket}"
        statement = {
            "Sid": "OnlyOverTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    def upload(self, app: PackagedApp) -> str:
        """Upload the code and the template, unless they are there, and return the template's URL."""
        code = f"rolecall/{app.zip_digest}.zip"
        template = app.uploaded_template(self.bucket, code).encode()
        key = f"rolecall/{sha256(template).hexdigest()}.json"
        with translate_errors(f"uploading to bucket {self.bucket}"):
            if not self._has(code):
                self.s3.upload_file(
                    str(app.zip_path), self.bucket, code, ExtraArgs={"ExpectedBucketOwner": self.location.account_id}
                )
            if not self._has(key):
                self.s3.put_object(
                    Bucket=self.bucket, Key=key, Body=template, ExpectedBucketOwner=self.location.account_id
                )
        # With the bucket in the path, as CloudFormation accepts it in every partition.
        return f"{self.s3.meta.endpoint_url}/{self.bucket}/{key}"

    def _has(self, key: str) -> bool:
        try:
            self.s3.head_object(Bucket=self.bucket, Key=key, ExpectedBucketOwner=self.location.account_id)
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_FOUND:
                return False
            raise
        return True
