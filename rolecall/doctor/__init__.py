"""Checks of a stage and of what it depends on; none of them changes anything."""
