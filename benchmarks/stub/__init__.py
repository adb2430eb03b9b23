"""A stub of the AWS APIs that Rolecall calls: as fast as can be, with AWS's latency and throttling as settings."""
