"""Networks, one a file, each with the recipe of its task."""
