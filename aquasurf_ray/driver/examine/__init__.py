"""Examinations before a search: the machine, a task, a function."""
