"""The driver's use of Ray: the connection, the number of workers, the worker pool, and the watch on Ray itself."""
