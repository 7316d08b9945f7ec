"""Durations as people write them: a number of seconds, or days, hours, minutes and seconds such as 2h30m."""

from __future__ import annotations

import math
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


def checked_seconds(seconds: float) -> float:
    """Return the number of seconds unchanged, if it is valid.

    Raises:
        ValueError: the number is not finite and positive.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(EXPECTED)
    return seconds


def duration_text(seconds: float) -> str:
    """Return a time in its two largest units, the smaller one rounded.

    >>> duration_text(9000), duration_text(45.2), duration_text(93_784), duration_text(3599.9)
    ('2 h 30 min', '45 s', '1 d 2 h', '1 h')
    """
    for unit in (86_400, 3_600, 60, 1):  # rounding comes first: 3599.9 s must become 1 h, not 59 min 60 s
        smaller = {86_400: 3_600, 3_600: 60, 60: 1, 1: 1}[unit]
        whole = round(seconds / smaller) * smaller
        if whole >= unit or unit == 1:
            break
    words = {86_400: "d", 3_600: "h", 60: "min", 1: "s"}
    parts = [(whole // unit, words[unit])] + ([(whole % unit // smaller, words[smaller])] if unit > 1 else [])
    return " ".join(f"{n:.0f} {word}" for n, word in parts if n) or "0 s"
