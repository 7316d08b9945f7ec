"""Durations in words, alike in the terminal, in the report and in messages of a run; `spoken` in live.js does the same
in the browser. Like the names of baselines, this needs no other part of the package."""

from __future__ import annotations


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
