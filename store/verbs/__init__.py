"""What can be done with a store, one subject a file: `Store` has all of these as methods."""
