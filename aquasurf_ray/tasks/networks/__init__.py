"""The built-in networks, one network a file, each with the recipe of its task."""
