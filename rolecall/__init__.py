"""The operators' command line: a client of a deployed stage, which never writes to IAM itself."""

__version__ = "0.1.0"
