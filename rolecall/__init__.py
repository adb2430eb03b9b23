"""The operator's command line: a thin client of a deployed stage, which writes no IAM itself."""

__version__ = "0.1.0"
