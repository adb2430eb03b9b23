"""The logger and the metrics that every function shares, and the metrics' names."""

from aws_lambda_powertools import Logger, Metrics

logger = Logger()
metrics = Metrics()
