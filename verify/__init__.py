"""Checks that need a browser: `make verify` runs them, beside the demo and every test."""
