"""Rolecall: one read-only role in every account of an AWS organization, and the policy that reaches it."""
