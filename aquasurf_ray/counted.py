"""A number with its noun, alike in the terminal, in the report and in messages of a run. It needs no other part of the
package."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, which takes an s in the plural, or has another one.

    >>> counted(1, "worker"), counted(0, "seed"), counted(1200, "training"), counted(2, "spectrum", "spectra")
    ('1 worker', '0 seeds', '1,200 trainings', '2 spectra')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
