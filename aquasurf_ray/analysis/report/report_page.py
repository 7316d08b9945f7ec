"""The report as one HTML file: text, tables and pictures, with Plotly embedded, so that it opens offline.

`document` returns the content of the page as JSON; `page` puts it, the scripts and the style sheet into one file. The
page of a running search polls the document and redraws what has changed (`server`).
"""

from __future__ import annotations

import base64
import html
from typing import Any

from aquasurf_ray.analysis.report.charts.plotly import figures
from aquasurf_ray.analysis.report.pictures.function_table import FunctionTable
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.report.summary import heading, leaderboard, notes, reproduction
from aquasurf_ray.analysis.report.template import packed_plotly, render
from aquasurf_ray.analysis.studies.findings import Findings

Json = dict[str, Any]
ALL = (
    "<p>Every candidate and every function that was trained. A column sorts by a click on its name, or Enter there; "
    "without JavaScript, aquasurf top and aquasurf find list the same.</p>"
)

NOSCRIPT = "The charts and the table of all functions need JavaScript; the text and the other tables do not."


def document(findings: Findings) -> Json:
    """Return the title, the first screen, the sections in order, and the table of functions; a section has an id, a
    title, HTML and figures, and says whether its vertical axes may be logarithmic."""
    table = FunctionTable(findings)
    sections = [_text_section("best", "Leaderboard", leaderboard(findings))]
    if findings.notes:
        sections.append(_text_section("notes", "Notes", notes(findings)))
    for make in KINDS.values():
        chart = make(findings)
        if chart is not None:
            words = f"<p>{html.escape(chart.words)}</p>"
            drawn = figures(chart, table.numbers)
            section = {"id": chart.kind, "title": chart.title, "html": words, "figures": drawn}
            sections.append(section | {"logarithmic": chart.may_be_logarithmic})
    sections.append(_text_section("all", "All functions", ALL))
    sections.append(_text_section("again", "Reproduce this run", reproduction(findings)))
    return {
        "title": f"Run {findings.run.name}",
        "heading": heading(findings),
        "metric": findings.metric_name,
        "higher_is_better": findings.task.metric.higher_is_better,
        "sections": sections,
        "functions": table.document(),
    }


def body(shown: Json) -> str:
    """Return the content of a document as HTML, which is readable before the script has run, and without it."""
    first = f'<h2 class="hidden" id="verdict-title">Verdict</h2><div id="heading">{shown["heading"]}</div>'
    sections = "\n".join(_section(section) for section in shown["sections"])
    return f'<section id="verdict" aria-labelledby="verdict-title">{first}</section>\n{sections}'


def page(shown: Json) -> str:
    """Return the whole HTML file.

    Raises:
        AnalysisError: Plotly is not installed.
    """
    packed = base64.b64encode(packed_plotly()).decode()
    return render(shown["title"], body(shown), shown=shown, noscript=NOSCRIPT, plotly=packed)


def _text_section(name: str, title: str, text: str) -> Json:
    return {"id": name, "title": title, "html": text, "figures": [], "logarithmic": False}


def _section(section: Json) -> str:
    title, name = html.escape(section["title"]), html.escape(section["id"])
    panels = "".join(f'<div class="panel" id="{name}-{i}"></div>' for i in range(len(section["figures"])))
    content = f'<h2 id="{name}-title">{title}</h2><div class="words" id="{name}-words">{section["html"]}</div>'
    content += f'<div class="choices" id="{name}-choices"></div>'
    if panels:
        described = f'role="img" aria-label="{title}" aria-describedby="{name}-words"'
        content += f'<div class="panels" {described}>{panels}</div>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{content}</section>'
