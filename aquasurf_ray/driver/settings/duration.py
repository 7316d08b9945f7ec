"""Durations as people write them: a number of seconds, or days, hours, minutes and seconds such as 2h30m."""

from __future__ import annotations

import re

SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
NUMBER = r"(\d+(?:\.\d+)?)"
EXPECTED = "must be seconds, or a time such as 2h30m or 45m"
FORM = re.compile("".join(f"(?:{NUMBER}{unit})?" for unit in SECONDS), re.ASCII)


def parse_duration(text: str) -> float:
    """Return the number of seconds that a text describes.

    A number alone is in seconds. Several numbers each need a unit: 2h30 could mean minutes or seconds.

    Raises:
        ValueError: the text is not a duration.

    >>> parse_duration("2h30m"), parse_duration("90"), parse_duration("1d 12h"), parse_duration("1.5h")
    (9000.0, 90.0, 129600.0, 5400.0)
    >>> parse_duration("2h30")
    Traceback (most recent call last):
    ValueError: must be seconds, or a time such as 2h30m or 45m
    """
    text = "".join(text.split()).lower()
    found = FORM.fullmatch(f"{text}s" if re.fullmatch(NUMBER, text, re.ASCII) else text)
    parts = found.groups() if found else ()
    if not any(parts):
        raise ValueError(EXPECTED)
    return sum(float(part or 0) * unit for part, unit in zip(parts, SECONDS.values(), strict=True))
