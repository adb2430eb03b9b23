"""What could be wrong with a stage and around it: one check each, which only looks."""
