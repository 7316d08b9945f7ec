"""The verbs of a store, one subject per file. `Store` has all of them as methods."""
