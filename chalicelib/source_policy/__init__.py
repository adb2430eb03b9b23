"""The source policy, which consists of shards: each is one managed policy that grants access to some accounts.

The ledger's rows define which accounts are granted; the records in the source-policy table contain what was last written.
"""
