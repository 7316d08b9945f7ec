"""Replays of early stopping: the searches, and the models of learning curves that they are compared with."""
