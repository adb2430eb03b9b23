"""How Hypothesis looks for examples here: few at a time, anew at each run, and without a clock."""

from hypothesis import settings

settings.register_profile("unit", max_examples=40, deadline=None, database=None, print_blob=True)
settings.load_profile("unit")
