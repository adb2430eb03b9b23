"""A local AWS organization: the packaged app runs on it as it would on AWS, with IAM enforced."""
