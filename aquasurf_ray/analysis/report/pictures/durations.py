"""Durations in words."""


def duration(seconds: float) -> str:
    """Return a duration in the unit that fits it.

    >>> duration(90), duration(5400), duration(10800)
    ('90 s', '90 min', '3.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
