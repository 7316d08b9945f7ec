"""The training engine, in parts: feed, form, optimisation, loop, validation, checkpoints, ranks."""
