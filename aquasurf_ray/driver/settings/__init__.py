"""The settings of a run: their models, how they are read and checked, and what they say about places."""
