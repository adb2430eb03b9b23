"""The Hypothesis profile of the unit tests: few examples, without a database and a deadline."""

from hypothesis import settings

settings.register_profile("unit", max_examples=40, deadline=None, database=None, print_blob=True)
settings.load_profile("unit")
