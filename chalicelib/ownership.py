"""Who owns a role or policy, by its tags."""

from collections.abc import Mapping
from typing import NamedTuple

MANAGED_BY_TAG = "managed-by"
STAGE_TAG = "rolecall-stage"
MANAGED_BY = "rolecall"
OWNERSHIP_TAGS = (MANAGED_BY_TAG, STAGE_TAG)


def ownership_tags(stage: str) -> dict[str, str]:
    """Return the two tags that mark a role or policy as a stage's."""
    return {MANAGED_BY_TAG: MANAGED_BY, STAGE_TAG: stage}


class Ownership(NamedTuple):
    """The ownership tags of a role or policy, compared with a stage's; `tags` is empty for one that Rolecall didn't create."""

    arn: str
    stage: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, arn: str, stage: str, tags: Mapping[str, str]) -> "Ownership":
        """Read the ownership tags among all tags of a role or policy."""
        return cls(arn, stage, {key: tags[key] for key in OWNERSHIP_TAGS if key in tags})

    @property
    def is_ours(self) -> bool:
        """Whether the stage owns it."""
        return self.tags == ownership_tags(self.stage)

    @property
    def is_other_stage(self) -> bool:
        """Whether another stage owns it; without a stage's tag it may be ours with edited tags."""
        return self.tags.get(STAGE_TAG, self.stage) != self.stage

    @property
    def owner(self) -> str:
        """Return a description of the owner for an error."""
        tags = ", ".join(f"{key}={value}" for key, value in sorted(self.tags.items()))
        return f"belongs to another owner ({tags})" if tags else "was not created by Rolecall"

    def rejection_reason(self, *, adopt: bool, name_parameter: str) -> str | None:
        """Return why it must not be changed, or None if it may be; `name_parameter` is the parameter that sets another name."""
        if self.is_ours or (adopt and not self.tags):
            return None
        if self.tags:
            return f"{self.arn} {self.owner}: set another {name_parameter}, or delete it"
        return (
            f"{self.arn} {self.owner}: delete it, set another {name_parameter}, or have Rolecall adopt it "
            "with AdoptExistingRoles=true"
        )
