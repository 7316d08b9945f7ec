"""Ray: the connection, the workers that fit, the pool, and the watch on both."""
