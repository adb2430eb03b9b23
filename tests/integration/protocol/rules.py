"""The rules of the source policy's single writer, each a switch that a mutant turns off."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The rules that the processes follow."""

    # Rows that enroll writes
    row_is_conditional: bool = True
    """A row is written only if its revision is still the one that was read."""
    failure_keeps_access: bool = True
    """A failed check leaves `access` as it was. Without a row there is no access, instead of `none`."""

    # Messages that enroll sends
    row_before_message: bool = True
    """The message is sent after the rows are written."""
    sends_if_changed: bool = True
    """A message is sent if a row's access changed, even if row and records agree."""
    sends_if_different: bool = True
    """A message is sent if row and records disagree, even if the row did not change."""

    # Roles that enroll deletes
    role_waits_for_records: bool = True
    """A retired account's role is deleted only when no record may grant it access."""
    lost_record_may_grant: bool = True
    """While records are missing, every account may have access."""

    # Records that publish keeps
    two_sets: bool = True
    """A record keeps `applied` beside `applying`, instead of one set that is overwritten."""
    applying_is_kept: bool = True
    """An `applying` that a run left behind is kept beside the one that the next run adds."""
    record_before_iam: bool = True
    """`applying` is recorded before IAM is written."""
    missing_row_keeps_access: bool = True
    """An account without a row, or without `access`, keeps what it has."""

    # Records that were lost
    lost_record_is_read_from_iam: bool = True
    """A lost record is read from IAM, instead of counting as empty."""
    shards_are_counted: bool = True
    """`#status` counts the shards, so that the loss of the last record is detected."""
    recovery_waits: bool = True
    """Records are read from IAM only two minutes after their loss was detected, when IAM's reads are up to date."""
    missing_flag_keeps_freeze: bool = True
    """Without `#control.frozen`, the source policy stays as frozen as its records are."""

    # The lease of a run
    run_lease: bool = True
    """A run acquires `#status.run` before it reads anything."""
    lease_is_renewed: bool = True
    """The lease is checked, and renewed if need be, before each write."""
    renewal_is_conditional: bool = True
    """A renewal fails if the owner is another run."""
    lease_outlasts_call: bool = True
    """A call begins only while the lease is valid for longer than the call can take."""
    call_follows_check: bool = True
    """A call begins within a second of the lease's check."""
    records_need_lease: bool = True
    """The lease is checked before a record is written, too."""
    unknown_outcome_keeps_lease: bool = True
    """After a call whose outcome is unknown the lease is left to expire, since the call may still take effect."""

    # The order of writes
    widens_before_it_narrows: bool = True
    """An account leaves a shard only when another that grants it access is recorded."""
    freeze_first: bool = True
    """Every shard's deny is written before anything else."""
    freeze_ends_run: bool = True
    """A run ends at the renewal that finds a changed freeze flag."""

    # Errors of single shards
    error_belongs_to_shard: bool = True
    """After a terminal error the other shards are written, and the messages are finished."""
    freeze_ignores_errors: bool = True
    """A shard that fails does not prevent the deny of the others."""

    # Verification of IAM
    verification_waits: bool = True
    """A shard whose last write began less than two minutes ago, even if it failed, is not verified."""
    verification_trusts_record: bool = True
    """IAM is repaired from the record, instead of the record from IAM."""


AS_DESIGNED = Rules()
