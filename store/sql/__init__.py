"""SQL for people: views, example queries, and queries that cannot write."""
