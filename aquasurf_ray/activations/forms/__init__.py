"""Forms of a function with the same values: eager, recomputed and compiled, and how one is chosen."""
