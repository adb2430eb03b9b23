"""A local AWS organization that runs the packaged app, with IAM policies enforced."""
