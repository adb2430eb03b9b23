"""A fast stub of the AWS APIs that Rolecall calls, with configurable latency and throttling."""
