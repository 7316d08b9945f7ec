"""Forms of a function with the same values: eager, recomputed and compiled, and the choice among them."""
