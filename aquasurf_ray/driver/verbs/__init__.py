"""What a user can do with runs, one verb a file."""
