"""Merging one store into another: runs, functions and evaluations are matched and renumbered."""
