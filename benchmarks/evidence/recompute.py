"""The tables of a page of evidence, computed again from installed benchmarks and put into their places in the page.

The page itself lists its tables, and of which benchmark each is: see `evidence_page.py`. The tables of experiments in
`aquasurf_ray.analysis.replay.experiments` are simulated over Ray on this machine; "winners" is the table of
winners.py, and those of second seeds come from second_seeds.py. The page is written after each table. The same command
gives the same tables, except for the times of suggestions. Prints its progress, with the load average, which shows the
machine's other load.

    python benchmarks/evidence/recompute.py PAGE [--only grid,winners] [--evaluations 100]

Hours of work may be interrupted: each table of one benchmark is kept in `build/evidence/PAGE.jsonl` as soon as it is
known, and the same command then computes only the others. When all tables are in the page, the file is removed; remove
it before, if the code has changed since.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import second_seeds
import winners
from evidence_page import TableOrder, table_orders, with_tables
from kept_rows import KeptRows, Row
from over_families import joined

from aquasurf_ray.analysis import Benchmark, load_benchmark
from aquasurf_ray.analysis.benchmarks.parquet import benchmark_path
from aquasurf_ray.analysis.replay.comparison_table import markdown
from aquasurf_ray.analysis.replay.experiments import SPLIT_SEED, experiments_named, table
from aquasurf_ray.driver.benchmarks.experiments import run_experiments
from aquasurf_ray.driver.benchmarks.replay import ReplayOrder
from aquasurf_ray.store import file_digest

WINNERS = "winners"
SEEDS = {"second-seeds": 100, "second-seeds-of-40": 40}
"""The tables of second_seeds.py, and their trainings."""
HALVES = ("first", "second")
CHOICES = ("best of one seed", "best of two seeds among the five")
KEPT = Path(__file__).resolve().parents[2] / "build/evidence"


def tables(benchmark: Benchmark, orders: Iterable[TableOrder], evaluations: int) -> Iterator[tuple[TableOrder, str]]:
    """Yield each table with its order, as soon as it is complete."""
    searched = {"all": benchmark, **dict(zip(HALVES, benchmark.split(SPLIT_SEED), strict=True))}
    for half, world in searched.items():
        wanted = [order for order in orders if order.half == half and order.name not in (WINNERS, *SEEDS)]
        here = {str(number): order for number, order in enumerate(wanted)}
        others = len(world) - len(world.baselines)
        asked = ReplayOrder(("random",), evaluations=evaluations, candidates=others // 2)
        chosen = {number: experiments_named([order.name])[order.name] for number, order in here.items()}
        runs = {number: order.runs for number, order in here.items()}
        for number, comparison in run_experiments(world, chosen, asked, runs=runs):
            about = f"{comparison.runs} runs, each among {others // 2:,} of {others:,} functions."
            yield here[number], f"{table(chosen[number], comparison)}\n\n{about}"
    for order in orders:
        if order.name == WINNERS:
            yield order, winners_table(benchmark, order.runs, evaluations)
        if order.name in SEEDS:
            yield order, second_seeds.table(searched[order.half], order.runs, SEEDS[order.name])


def over_benchmarks(order: TableOrder, texts: Mapping[str, str]) -> str:
    """Return the tables of an order's benchmarks as one, with the row of each policy over all of them."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return f"{joined({name: texts[name] for name in order.benchmarks})}\n\n{order.runs} runs on each benchmark."


def winners_table(benchmark: Benchmark, runs: int, evaluations: int) -> str:
    """Return the effect of confirming the five best, in Markdown."""
    columns = ("", "chosen by", "judged by another seed", "lost", "test accuracy", "at least relu's equal", "diverged")
    pairs = [winners.winners(benchmark, run, evaluations, winners.TOP) for run in range(runs)]
    rows = []
    for name, found in zip(CHOICES, zip(*pairs, strict=True), strict=True):
        is_ = winners.summary(list(found))
        scores = [f"{is_[key]:.4f}" for key in ("chosen_by", "judged", "lost", "test")]
        rows.append([name, *scores, f"{is_['as_good_as_relu']:.0%}", f"{is_['diverged']:.0f}"])
    return f"{markdown(columns, rows)}\n\n{runs} runs, each among half of the functions."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path, help="docs/evidence.md or docs/evidence-tables.md, for instance")
    parser.add_argument("--only", default="", help="tables by name, several with commas; default: all")
    parser.add_argument("--evaluations", type=int, default=100)
    options = parser.parse_args()
    orders = table_orders(options.page.read_text(encoding="utf-8"))
    only = [name for name in options.only.split(",") if name]
    unknown = set(only) - {order.name for order in orders}
    if unknown:
        parser.error(f"the page has no table {', '.join(sorted(unknown))}")
    orders = [order for order in orders if not only or order.name in only]
    began = time.monotonic()
    orders_of = {
        name: [order for order in orders if name in order.benchmarks]
        for name in dict.fromkeys(name for order in orders for name in order.benchmarks)
    }
    benchmarks = {name: load_benchmark(name) for name in orders_of}
    for name, of_one in orders_of.items():  # all of them before anything is computed, which takes an hour
        of_seeds = [order.name for order in of_one if order.name in (WINNERS, *SEEDS)]
        n_seeds = benchmarks[name].n_seeds
        if of_seeds and n_seeds < winners.SEEDS_NEEDED:
            parser.error(f"{', '.join(of_seeds)} need {winners.SEEDS_NEEDED} seeds, and {name} has {n_seeds}")
    file = KEPT / f"{options.page.stem}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = KeptRows(file)
    found: dict[TableOrder, dict[str, str]] = {order: {} for order in orders}
    for name, of_one in orders_of.items():
        digest = file_digest(benchmark_path(name))
        keys = {order: _key(order, digest, options.evaluations) for order in of_one}
        for order, text in _all_tables(benchmarks[name], keys, kept, options.evaluations):
            found[order][name] = text
            if len(found[order]) == len(order.benchmarks):
                page = options.page.read_text(encoding="utf-8")  # again, because somebody may have edited it meanwhile
                complete = over_benchmarks(order, found[order])
                options.page.write_text(with_tables(page, {order: complete}), encoding="utf-8")
            minutes, load = (time.monotonic() - began) / 60, os.getloadavg()[0]
            print(f"{name}: {order.name}, {order.half}: {minutes:.1f} minutes so far, load {load:.1f}", flush=True)
    file.unlink(missing_ok=True)


def _all_tables(
    benchmark: Benchmark, keys: Mapping[TableOrder, Row], kept: KeptRows, evaluations: int
) -> Iterator[tuple[TableOrder, str]]:
    """Yield the tables of a benchmark, first those that an interrupted command kept."""
    known = {order: row["text"] for order, key in keys.items() for row in kept.rows if key.items() <= row.items()}
    yield from known.items()
    for order, text in tables(benchmark, [order for order in keys if order not in known], evaluations):
        kept.add(keys[order] | {"text": text})
        yield order, text


def _key(order: TableOrder, digest: str, evaluations: int) -> Row:
    """Return what a table of one benchmark, the file of this digest, depends on."""
    return {"table": order.name, "runs": order.runs, "half": order.half, "evaluations": evaluations, "file": digest}


if __name__ == "__main__":
    main()
