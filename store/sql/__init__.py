"""SQL for people: views, example queries, and read-only queries."""
