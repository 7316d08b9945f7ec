"""A number with its noun, alike in the terminal, in the report and in messages of a run. It needs no other part of the
package."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural.

    >>> counted(1, "worker"), counted(0, "seed"), counted(1200, "training")
    ('1 worker', '0 seeds', '1,200 trainings')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"
