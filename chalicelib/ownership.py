"""Who owns a role or policy, by its tags."""

import re
from collections.abc import Mapping
from typing import NamedTuple

MANAGED_BY_TAG = "managed-by"
STAGE_TAG = "rolecall-stage"
MANAGED_BY = "rolecall"
OWNERSHIP_TAGS = (MANAGED_BY_TAG, STAGE_TAG)

_OTHER_MANAGERS = re.compile(r"terraform|terragrunt|tofu|pulumi|crossplane|ansible|cloudformation|cdk", re.IGNORECASE)
"""Programs whose users name them in a tag by convention, such as Terraform=true or CreatedBy=terraform."""


def ownership_tags(stage: str) -> dict[str, str]:
    """Return the two tags that mark a role or policy as a stage's."""
    return {MANAGED_BY_TAG: MANAGED_BY, STAGE_TAG: stage}


class Ownership(NamedTuple):
    """The ownership tags of a role or policy, compared with a stage's; `tags` is empty if Rolecall didn't create it.

    `other_manager` is the tag that names another program that manages it, such as ManagedBy=terraform, if there is one.
    """

    arn: str
    stage: str
    tags: Mapping[str, str]
    other_manager: str | None = None

    @classmethod
    def of(cls, arn: str, stage: str, tags: Mapping[str, str]) -> "Ownership":
        """Read the ownership tags among all tags of a role or policy."""
        own = {key: tags[key] for key in OWNERSHIP_TAGS if key in tags}
        return cls(arn, stage, own, _other_manager(tags))

    @property
    def is_ours(self) -> bool:
        """Whether the stage owns it."""
        return self.tags == ownership_tags(self.stage)

    @property
    def is_other_stage(self) -> bool:
        """Whether another stage owns it; without a stage's tag it may be ours with edited tags."""
        return self.tags.get(STAGE_TAG, self.stage) != self.stage

    @property
    def is_of_a_stage(self) -> bool:
        """Whether a stage owns it, or did before its tags were edited."""
        return STAGE_TAG in self.tags or self.tags.get(MANAGED_BY_TAG) == MANAGED_BY

    @property
    def owner(self) -> str:
        """Return a description of the owner for an error."""
        tags = ", ".join(f"{key}={value}" for key, value in sorted(self.tags.items()))
        return f"belongs to another owner ({tags})" if tags else "was not created by Rolecall"

    def rejection_reason(self, *, adopt: bool, by_id: bool, name_parameter: str) -> str | None:
        """Return why it must not be changed, or None if it may be.

        `name_parameter` is the parameter that sets another name. `adopt` is whether roles of its account may be
        adopted, and `by_id` whether the settings name that account: an operator names it once the other program no
        longer manages the role, whose tags stay.
        """
        if self.is_ours:
            return None
        if self.is_of_a_stage:
            return f"{self.arn} {self.owner}: set another {name_parameter}, or delete it"
        if not adopt:
            return (
                f"{self.arn} {self.owner}: delete it, set another {name_parameter}, or have Rolecall adopt it "
                "with AdoptExistingRoles"
            )
        if self.other_manager and not by_id:
            return (
                f"{self.arn} has the tag {self.other_manager}: end its management there, then name the account's id in "
                f"AdoptExistingRoles (docs/coming-from.md); or set another {name_parameter}"
            )
        return None


def _other_manager(tags: Mapping[str, str]) -> str | None:
    for key, value in sorted(tags.items()):
        # Tags of AWS, such as aws:cloudformation:stack-name, can't be removed: they stay when the role is removed from its stack.
        if key.lower().startswith("aws:"):
            continue
        # Any value: the tag of this name would be replaced. As ManagedBy or managed_by it means the same.
        names_manager = re.sub(r"[^a-z]", "", key.lower()) == "managedby" and value != MANAGED_BY
        if names_manager or _OTHER_MANAGERS.search(f"{key}={value}"):
            return f"{key}={value}"
    return None
