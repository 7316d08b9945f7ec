"""The state of a run in the memory of its driver: context, history and evaluations."""
