"""Merging one store into another: runs, functions and evaluations meet, and are renumbered."""
