"""The whole organization: backfill, rerun and resync, which differ in the accounts that they select."""
