"""Reading Act-Bench files of other programs, as streams."""
