"""Benchmarks of Rolecall, as ratios to the cost of the AWS calls alone."""
