"""The report as one HTML file: text, tables and pictures, with Plotly embedded, so that it opens offline.

`document` returns the content of the page as JSON; `page` puts it, the script and the style sheet into one file. The
page of a running search (`live`) polls the document and redraws what has changed.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.charts.plotly import figures
from aquasurf_ray.analysis.report.pictures.function_table import FunctionTable
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.report.summary import heading, leaderboard, reproduction
from aquasurf_ray.analysis.studies.findings import Findings

Json = dict[str, Any]


def document(findings: Findings) -> Json:
    """Return the title, the sections in order, and the table of functions; a section has an id, a title, HTML and
    figures."""
    table = FunctionTable(findings)
    sections: list[Json] = [{"id": "best", "title": "Leaderboard", "html": leaderboard(findings), "figures": []}]
    for make in KINDS.values():
        chart = make(findings)
        if chart is not None:
            words = f"<p>{html.escape(chart.words)}</p>"
            drawn = figures(chart, table.numbers)
            sections.append({"id": chart.kind, "title": chart.title, "html": words, "figures": drawn})
    sections.append({"id": "again", "title": "Reproduce this run", "html": reproduction(findings), "figures": []})
    return {
        "title": f"Run {findings.run.name}",
        "heading": heading(findings),
        "metric": findings.metric_name,
        "sections": sections,
        "functions": table.document(),
    }


def page(shown: Json, *, live: bool = False) -> str:
    """Return the whole HTML file.

    Raises:
        AnalysisError: Plotly is not installed.
    """
    parts = {
        "title": html.escape(shown["title"]),
        "style": _read("page.css"),
        "script": _read("page.js"),
        "plotly": _plotly(),
        "body": "\n".join(_section(section) for section in shown["sections"]),
        "heading": shown["heading"],
        "document": _in_script(shown),
        "live": "true" if live else "false",
    }
    return Template(_read("page.html")).substitute(parts)


def _section(section: Json) -> str:
    """Return a section with its text, which is readable before the script has run, and without JavaScript."""
    title, name = html.escape(section["title"]), html.escape(section["id"])
    panels = "".join(f'<div class="panel" id="{name}-{i}"></div>' for i in range(len(section["figures"])))
    words = f'<div class="words" id="{name}-words">{section["html"]}</div>'
    pictures = ""
    if panels:
        pictures = f'<div class="panels" role="img" aria-label="{title}" aria-describedby="{name}-words">{panels}</div>'
    return f'<section id="{name}"><h2>{title}</h2>{words}{pictures}</section>'


def _in_script(shown: Json) -> str:
    """Return JSON that is safe inside a script element, whatever its content."""
    text = json.dumps(shown, separators=(",", ":"), allow_nan=False)
    # "</script>" in a text would end the element, and the two separators end a line in older JavaScript.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Return the library, compressed, as base64."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise AnalysisError("a report needs Plotly: pip install plotly matplotlib") from None
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
