"""Tables for a paper: Markdown, and LaTeX with the package booktabs. Cells are text that is formatted already."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from aquasurf_ray.value_text import value_text

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
_LATEX |= {character: rf"\{character}" for character in "&%$#_{}"}


class Table(StrEnum):
    """The formats that a table of a study can be printed in."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


def cell(value: Any, among: float | None = None) -> str:
    """Return a value as the text of a cell: nothing for None, numbers as `value_text` writes them."""
    if value is None:
        return ""
    return value_text(value, among=among or 0.0) if isinstance(value, float) else str(value)


def escaped(text: str) -> str:
    r"""Return plain text for LaTeX.

    >>> print(escaped("leaky_relu, 95%"))
    leaky\_relu, 95\%
    """
    return "".join(_LATEX.get(character, character) for character in text)


def gain_words(reference: str, corrected: str) -> str:
    """Return what the columns `gain` and `p` are.

    Args:
        reference: the function that gains are over.
        corrected: what p-values are corrected for.
    """
    return (
        f"Gain: the mean difference to {reference} with the same seeds, positive if better. P: its paired t-test, with "
        f"Holm's correction for the {corrected}."
    )


def print_markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table in Markdown under its title, with a note below it."""
    print(f"{title}.\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if note:
        print(f"\n{note}")


def print_latex(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], alignment: str, note: str = ""
) -> None:
    """Print a table for the LaTeX package booktabs.

    Args:
        title: written above the table as a comment.
        columns: the headings, as plain text.
        rows: cells in LaTeX.
        alignment: `l` or `r` for each column.
        note: the rest of the comment.
    """
    print(f"% {title}{f'. {note}' if note else ''}\n\\begin{{tabular}}{{{alignment}}}\n\\toprule")
    print(f"{' & '.join(map(escaped, columns))} \\\\\n\\midrule")
    for row in rows:
        print(f"{' & '.join(row)} \\\\")
    print("\\bottomrule\n\\end{tabular}")
