"""The page's frame: style sheet, scripts and Plotly's library in one HTML file. It imports nothing heavy, so that
`watch` has a page at once."""

from __future__ import annotations

import gzip
import html
import json
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any

from aquasurf_ray.analysis.errors import AnalysisError

Json = dict[str, Any]
SCRIPTS = ("tables.js", "live.js", "page.js")  # the last one starts the page
EMPTY: Json = {"sections": [], "functions": {"names": [], "readable": {}, "curves": ""}}
"""A page's document before there is one."""


def render(
    title: str,
    body: str,
    *,
    shown: Json,
    noscript: str,
    plotly: str = "",
    live: Json | None = None,
    home: str = "",
) -> str:
    """Return a page.

    Args:
        title: its heading.
        body: its content as HTML.
        shown: the document that its script draws.
        noscript: a sentence on what needs JavaScript, for a reader without it.
        plotly: the library, packed as base64; a live page fetches it.
        live: the source that a live page follows, the path of a run or the list of runs; None for a fixed page.
        home: a link to the list of runs, as HTML.
    """
    parts = {
        "title": html.escape(title),
        "style": _read("page.css"),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        "plotly": plotly,
        "body": body,
        "noscript": html.escape(noscript),
        "document": _in_script(shown),
        "live": _in_script(live),
        "home": home,
    }
    return Template(_read("page.html")).substitute(parts)


def plain_page(title: str, words: str, link: str, reload_seconds: int | None = None) -> str:
    """Return a page of a few words without a script.

    Args:
        words: a sentence.
        link: a link as HTML.
        reload_seconds: after how many seconds the browser asks for the page again; None for never.
    """
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{_read("page.css")}</style>'
    head += "" if reload_seconds is None else f'<meta http-equiv="refresh" content="{reload_seconds}">'
    shown = html.escape(title)
    text = f"<header><h1>{shown}</h1></header>\n<nav></nav>\n<main><p>{html.escape(words)}</p>\n<p>{link}</p></main>"
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{text}\n</body>\n</html>\n'


@lru_cache(maxsize=1)
def packed_plotly() -> bytes:
    """Return the library, compressed.

    Raises:
        AnalysisError: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise AnalysisError("a report needs Plotly: pip install plotly matplotlib") from None
    return gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)


def _in_script(shown: Json | None) -> str:
    """Return JSON that is safe inside a script element, whatever its content."""
    text = json.dumps(shown, separators=(",", ":"), allow_nan=False)
    # "</script>" in a text would end the element, and the two separators end a line in older JavaScript.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
