"""The pages of evidence: their tables are those of the experiments, and their sentences say what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evidence_page import TableOrder, table_orders, tables_of, with_tables
from recompute import SEEDS, over_benchmarks

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.comparison_table import COLUMNS
from aquasurf_ray.analysis.replay.experiments import EXPERIMENTS, experiments_named
from aquasurf_ray.analysis.replay.seeds import RULES
from aquasurf_ray.driver.settings.models import SearchConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("evidence.md", "evidence-tables.md")}
PAGE = "".join(PAGES.values())
SECTIONS = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]
TRANSFER = (DOCS / "evidence-transfer.md").read_text(encoding="utf-8")
FIGURE = re.compile(r"(?<![\w.])\d[\d,.]*\d%?|(?<![\w.])\d%?")
LINK = re.compile(r"\[table\]\((?P<page>[a-z-]*(?:\.md)?)#(?P<anchor>[a-z0-9-]+)\)")
OF_SCRIPTS = ("winners", *SEEDS)
"""Tables that are no experiments: each comes from a script of benchmarks/."""
SMALL = """# Page

<!-- table: k runs=20 -->
| old |
<!-- end of table -->

1 is in the text.

<!-- table: k runs=100 half=second -->
<!-- end of table -->
"""


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" |")]


def test_every_experiment_but_the_whole_grid_is_in_the_page() -> None:
    orders = table_orders(PAGE)
    assert {order.name for order in orders} - {"grid", "families", "choices", "shares", "reflections"} == {
        *experiments_named([]),
        *OF_SCRIPTS,
    }


@pytest.mark.parametrize(
    "order",
    [o for o in table_orders(PAGE + TRANSFER) if o.name not in OF_SCRIPTS],
    ids=lambda o: f"{o.name}-{o.half}",
)
def test_a_table_has_the_rows_and_runs_of_its_experiment(order: TableOrder) -> None:
    head, _, *rows, _, about = tables_of(PAGE + TRANSFER)[order].strip().splitlines()
    several = len(order.benchmarks) > 1
    assert cells(head)[several:][: len(COLUMNS)] == [column.strip() for column in COLUMNS]
    labels = [variant.label for variant in EXPERIMENTS[order.name].variants]
    assert [cells(row)[several] for row in rows] == labels * (len(order.benchmarks) + several)
    assert about.startswith(f"{order.runs} runs on each" if several else f"{order.runs} runs, each among ")


def anchor(section: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", section.split("\n")[0].lower()).replace(" ", "-")


FINDINGS = [each for each in re.split(r"^- ", PAGES["evidence.md"], flags=re.MULTILINE)[1:] if LINK.search(each)]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda text: LINK.search(text)["anchor"])
def test_a_findings_figures_are_in_the_section_that_it_links_to(finding: str) -> None:
    said, link = finding.partition("\n\n")[0], LINK.search(finding)
    (section,) = (each for each in SECTIONS if anchor(each) == link["anchor"])
    assert section in PAGES[link["page"] or "evidence.md"]
    there = set(re.findall(r"\d[\d,.]*\d%?|\d%?", section))
    assert [figure for figure in FIGURE.findall(LINK.sub("", said)) if figure not in there] == []


def test_every_chapter_of_tables_has_a_finding_except_for_choices_of_one_setting() -> None:
    """The chapters of the tables are what the page of findings tells; choices of one setting may have no effect."""
    chapters = {anchor(each) for each in re.split(r"^## ", PAGES["evidence-tables.md"], flags=re.MULTILINE)[1:]}
    told = {LINK.search(each)["anchor"] for each in FINDINGS}
    assert chapters - told == {"measurements", "one-choice-at-a-time"}


@pytest.mark.parametrize("section", [*SECTIONS, *re.split(r"^## ", TRANSFER, flags=re.MULTILINE)[1:]], ids=anchor)
def test_figures_in_sentences_are_in_the_tables_of_their_section(section: str) -> None:
    tables = " ".join(tables_of(section).values())
    if not tables:
        return
    said = re.sub(
        r"`[^`]*`|top [\d.]+%|\]\([^)]*\)", "", re.sub(r"<!--.*?end of table -->", "", section, flags=re.DOTALL)
    )
    figures = FIGURE.findall(said)
    there = set(re.findall(r"\d[\d,.]*\d%?|\d%?", tables))
    assert [figure for figure in figures if figure not in there] == []


@pytest.mark.parametrize(
    "order", [o for o in table_orders(PAGE) if o.name in SEEDS], ids=lambda o: f"{o.name}-{o.half}"
)
def test_a_table_of_second_seeds_has_all_rules_and_the_runs_that_its_comment_says(order: TableOrder) -> None:
    head, _, *rows, _, about = tables_of(PAGE)[order].strip().splitlines()
    assert cells(head)[:2] == ["rule", "second seeds"]
    assert [cells(row)[0] for row in rows] == list(RULES)
    assert about.startswith(f"{order.runs} runs of {SEEDS[order.name]} trainings, each among ")


def test_the_default_is_what_the_tables_of_second_seeds_say() -> None:
    """More than one seed is the default only if the last fifth is better on the half that judges."""
    page = tables_of(PAGE)
    found = []
    for name in SEEDS:
        (table,) = (text for order, text in page.items() if (order.name, order.half) == (name, "second"))
        columns, rows = cells(table.splitlines()[0]), [cells(line) for line in table.splitlines()[2:] if "|" in line]
        (row,) = (row for row in rows if row[0] == "last fifth again")
        found.append(float(row[columns.index("p")].strip("<")))
    assert (SearchConfig.model_fields["leader_seeds"].default > 1) == (max(found) < 0.05)


def test_tables_are_put_in_their_places_and_nothing_else_changes() -> None:
    first, second = table_orders(SMALL)
    assert (first, second) == (TableOrder("k", 20), TableOrder("k", 100, "second"))
    filled = with_tables(SMALL, {second: "| new |\n\n\\1 runs."})
    assert tables_of(filled) == {first: "| old |\n", second: "| new |\n\n\\1 runs.\n"}
    assert with_tables(filled, {second: ""}) == SMALL
    of_another = SMALL.replace("half=second", "benchmark=other")
    assert table_orders(of_another) == [first, TableOrder("k", 100, benchmarks=("other",))]
    of_two = TableOrder("k", 100, benchmarks=("other", "folder/one.parquet"))
    assert table_orders(SMALL.replace("half=second", "benchmark=other,folder/one.parquet")) == [first, of_two]
    assert with_tables(SMALL, {TableOrder("k", 21): "| other |"}) == SMALL


def test_a_table_over_benchmarks_has_the_rows_of_each_and_of_all() -> None:
    order = TableOrder("k", 20, benchmarks=("b", "folder/a.parquet"))
    head = f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}\n"
    row = "| {} | {} [1, 90] | {} | {} [5, >100] | 50% | 0.1 [0.0, 0.2] | - | 1.0 | {} |\n"
    reference, none = "- | - | - | -", "2.00 [1.00, 3.00] | 0.05 | {} | 1.00"
    of_a = row.format("x", 10, "0%", ">100", reference) + row.format("y", 40, "10%", 50, none.format("<0.0001"))
    of_b = row.format("x", 90, "20%", 4, reference) + row.format("y", 10, "0%", 50, none.format("0.049"))
    texts = {"folder/a.parquet": f"{head}{of_a}\n20 runs.", "b": f"{head}{of_b}\n20 runs."}
    top, _, *rows, _, about = over_benchmarks(order, texts).splitlines()
    assert cells(top)[:2] == ["benchmark", "policy"]
    assert [cells(line)[:2] for line in rows] == [[name, policy] for name in ("b", "a", "all") for policy in "xy"]
    # sqrt(10 * 90) = 30, sqrt(100 * 4) = 20; sqrt(40 * 10) = 20, sqrt(50 * 50) = 50; only p < 0.05 is significant
    assert cells(rows[-2])[2:] == ["30.0", "10%", "20.0", "50%", "-", "-", "-", "-", "-", "-", "-"]
    assert cells(rows[-1])[2:6] == ["20.0", "5%", "50.0", "50%"]
    assert cells(rows[-1])[9:] == ["1.50", "0 better, 0 worse", "1 better, 1 worse", "0 better, 0 worse"]
    assert about == "20 runs on each benchmark."
    assert over_benchmarks(TableOrder("k", 20), {"b": "text"}) == "text"


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (SMALL.replace("runs=20", "runs=0"), "'k runs=0' names no table"),
        (SMALL.replace("runs=20", ""), "'k' names no table"),
        (SMALL.replace("k runs=20", ""), "'' names no table"),
        (SMALL.replace("half=second", "half=third"), "'k runs=100 half=third' names no table"),
        (SMALL.replace("half=second", "seed=2"), "'k runs=100 seed=2' names no table"),
        (SMALL.replace(" half=second", ""), "table 'k' of all functions of act-bench-digits-mlp is in the page twice"),
        (SMALL.replace("half=second", "benchmark="), "'k runs=100 benchmark=' names no table"),
        (SMALL.replace("half=second", "benchmark=a,"), "'k runs=100 benchmark=a,' names no table"),
        (
            SMALL.replace("half=second", "benchmark=a,b/a.parquet"),
            "'k runs=100 benchmark=a,b/a.parquet' names no table",
        ),
        (SMALL + "<!-- table: fisher runs=3 -->\n", "3 tables begin and 2 end in the page"),
        (SMALL.replace("<!-- end of table -->", "", 1), "2 tables begin and 1 end"),
    ],
)
def test_comments_that_say_nothing_are_refused(page: str, says: str) -> None:
    with pytest.raises(AnalysisError, match=re.escape(says)):
        table_orders(page)
