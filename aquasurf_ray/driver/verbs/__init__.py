"""The verbs of the package: everything that a user can do with runs, one verb per file."""
