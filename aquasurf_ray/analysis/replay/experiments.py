"""The experiments of docs/evidence-tables.md: questions, each with a comparison of a few search algorithms.

An experiment changes one setting of the paper's configuration, against a reference without the change. A search on a
map takes one of five layouts, by its seed, so that the luck of one layout is not mistaken for the effect of a setting.
A new experiment is one entry of `EXPERIMENTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.comparison import Comparison
from aquasurf_ray.analysis.replay.comparison_table import COLUMNS, markdown, rows, seconds_text
from aquasurf_ray.analysis.replay.transfer import OTHERS, TRANSFER

SPLIT_SEED = 0  # the random seed of the two halves of a benchmark: one to choose on, one to judge on
LAYOUTS = ":layouts=5"
ON_MAP = f"knr/both/umap{LAYOUTS}"
METRIC = "knr/both/metric"
RANKED = "gp/both/metric:targets=ranks"
EXPECTED_IMPROVEMENT = f"{RANKED}:acquisition=ei"
DEFAULT = f"{RANKED}:acquisition=ucb"  # the surrogate "metric" where one training runs at a time
RIVALS = ("random", "evolution", "tpe")
ALL_REGRESSORS = ("knr", "rfr", "svr", "gp")
ALL_FEATURES = ("spectrum", "outputs", "both")


@dataclass(frozen=True, order=True)
class Variant:
    """A search algorithm by name, with a number of trainings at the same time."""

    policy: str
    workers: int = 1

    @property
    def label(self) -> str:
        """The name of the variant in tables."""
        return self.policy if self.workers == 1 else f"{self.policy}, {self.workers} workers"


@dataclass(frozen=True)
class Experiment:
    """A question, and the variants whose comparison answers it; the first one is the reference."""

    question: str
    variants: tuple[Variant, ...]

    @property
    def reference(self) -> str:
        """The label of the variant that the others are tested against."""
        return self.variants[0].label


def _of(question: str, policies: Iterable[str]) -> Experiment:
    # Lists below overlap where two of them have the same default; each variant is simulated once.
    return Experiment(question, tuple(map(Variant, dict.fromkeys(policies))))


def _transfer(source: str) -> list[str]:
    """Return policies with all results of a source, with those of a search on it, and with misleading ones."""
    settings = ("", ":search=100", ":scores=negated", ":scores=shuffled")
    return [DEFAULT, *(f"{TRANSFER}{source}{setting}" for setting in settings), "random"]


def _on_map(*settings: str, features: str = "both") -> list[str]:
    return [f"knr/{features}/umap{LAYOUTS}" + (f":{setting}" if setting else "") for setting in settings]


EXPERIMENTS: dict[str, Experiment] = {
    "rivals": _of("Does the surrogate find the best sooner than its rivals?", [*RIVALS, "aquasurf", ON_MAP, METRIC]),
    "default": _of(
        "What should a search use by default?",
        [
            ON_MAP,
            "random",
            METRIC,
            RANKED,
            EXPECTED_IMPROVEMENT,
            DEFAULT,
            "knr+gp+svr/both/metric:targets=ranks",
        ],
    ),
    "features": _of("Which features?", [ON_MAP, *(f"knr/{f}/umap{LAYOUTS}" for f in ("outputs", "spectrum"))]),
    "regressor": _of(
        "Which regressor?",
        [f"{r}/both/{space}" for space in (f"umap{LAYOUTS}", "metric") for r in ALL_REGRESSORS],
    ),
    "embedding": _of(
        "UMAP, or the features' own distances?",
        [ON_MAP, *(f"knr/{f}/{space}" for f in ALL_FEATURES for space in (f"umap{LAYOUTS}", "metric"))],
    ),
    "layer-weighting": _of(
        "Which weighting of layers in the spectrum distance?",
        [
            ON_MAP,
            *_on_map("weighting=uniform", "weighting=size"),
            *_on_map("", "weighting=uniform", "weighting=size", features="spectrum"),
            *(f"knr/spectrum/metric:weighting={w}" for w in ("inverse", "uniform", "size")),
        ],
    ),
    "n-neighbors": _of(
        "How large are UMAP's neighbourhoods, in spectra and in outputs?",
        [
            ON_MAP,
            *_on_map(*(f"n_neighbors_spectrum={n}" for n in (2, 5, 10, 15, 30))),
            *_on_map(*(f"n_neighbors_outputs={n}" for n in (3, 5, 30))),
        ],
    ),
    "k": _of("How many neighbours does knr take?", [ON_MAP, *_on_map(*(f"k={k}" for k in (1, 2, 5, 10)))]),
    "combine": _of("Union or intersection of the two graphs?", [ON_MAP, *_on_map("combine=intersection")]),
    "balance": _of(
        "How much do outputs count relative to spectra, without a map?",
        [METRIC, *(f"{METRIC}:balance={share}" for share in (0.1, 0.25, 0.75, 0.9)), "gp/both/metric:balance=learned"],
    ),
    "fisher": _of(
        "Labels drawn from the network (sampled) or from the data (empirical)?",
        [
            ON_MAP,
            *_on_map("fisher=empirical"),
            *_on_map("", "fisher=empirical", features="spectrum"),
            *(f"knr/{f}/metric:fisher={fisher}" for f in ("spectrum", "both") for fisher in ("sampled", "empirical")),
        ],
    ),
    "n-spectra": _of(
        "How many candidates need a spectrum?",
        [
            ON_MAP,
            *_on_map(*(f"spectra={n}" for n in (100, 300, 1000))),
            f"knr/outputs/umap{LAYOUTS}",
            METRIC,
            *(f"{METRIC}:spectra={n}" for n in (100, 300, 1000)),
            *(f"{METRIC}:spectra={n}:on_demand=10" for n in (100, 300, 1000)),
        ],
    ),
    "next-spectra": _of(
        "Which candidates get the next spectra, and how many at once?",
        [
            DEFAULT,
            DEFAULT.replace("both", "outputs"),
            *(f"{DEFAULT}:spectra={n}" for n in (150, 300)),
            *(f"{DEFAULT}:spectra={n}:on_demand={m}" for n, m in ((150, 1), (300, 1), (300, 3), (300, 30))),
        ],
    ),
    "acquisition": _of(
        "Does uncertainty help to choose?",
        [
            "gp/both/metric",
            *(f"gp/both/metric:acquisition={a}" for a in ("ucb", "ei")),
            *(f"gp/both/umap{LAYOUTS}:acquisition={a}" for a in ("mean", "ucb", "ei")),
        ],
    ),
    "diverged": _of(
        "What is learned from functions that diverged?",
        [ON_MAP, *_on_map("diverged=ignore"), METRIC, f"{METRIC}:diverged=ignore"],
    ),
    "targets": _of(
        "Does the regressor learn scores or their ranks?",
        [f"{name}{setting}" for name in ("gp/both/metric", "svr/both/metric") for setting in ("", ":targets=ranks")],
    ),
    "ensemble": _of(
        "Do several surrogates together find more than one?",
        [
            METRIC,
            RANKED,
            "knr+gp/both/metric",
            *(f"{several}/both/metric:targets=ranks" for several in ("knr+gp", "knr+gp+svr")),
            f"knr/both/umap+metric{LAYOUTS}",
        ],
    ),
    "parallel": Experiment(
        "What does parallelism cost?",
        tuple(
            Variant(policy, workers)
            # Random search loses no evaluations to parallelism, so it shows how much the surrogate loses.
            for policy in (ON_MAP, f"{ON_MAP}:pending=believer", "random")
            for workers in (1, 2, 4, 8, 16)
        ),
    ),
    "pending": Experiment(
        "Which scores are assumed for pending evaluations, without a map?",
        (
            Variant(DEFAULT),
            *(
                Variant(f"{DEFAULT}:pending={pending}", workers)
                for workers in (4, 16)
                for pending in ("believer", "liar", "ignore")
            ),
            *(Variant("random", workers) for workers in (1, 4, 16)),
        ),
    ),
    "families": _of("Does the default find the best sooner on networks that differ?", ["aquasurf", "random", DEFAULT]),
    "choices": _of(
        "Does changing one of the default's choices help on networks that differ?",
        [
            DEFAULT,
            RANKED,
            EXPECTED_IMPROVEMENT,
            "gp/both/metric:acquisition=ucb",
            f"{DEFAULT}:diverged=ignore",
            *(f"{DEFAULT}:balance={share}" for share in (0.25, 0.75)),
            f"{DEFAULT}:weighting=uniform",
            f"{DEFAULT}:fisher=empirical",
            *(DEFAULT.replace("both", features) for features in ("outputs", "spectrum")),
            METRIC,
            "knr+gp+svr/both/metric:targets=ranks",
            ON_MAP,
        ],
    ),
    "shares": _of(
        "Which acquisition function, and does a learned share of outputs help, on networks that differ?",
        [f"{each}{share}" for each in (EXPECTED_IMPROVEMENT, DEFAULT) for share in ("", ":balance=learned")],
    ),
    "reflections": _of(
        "Does it help to take f(x), -f(x), f(-x) and -f(-x) for one function, on networks that differ?",
        [DEFAULT, *(f"{DEFAULT}:reflections={which}" for which in ("outputs", "both"))],
    ),
    "from-others": _of("Do results of all other tasks help a search?", _transfer(OTHERS)),
    "from-digits": _of(
        "Do results of the convolutional network help a search on another task?", _transfer("act-bench-digits")
    ),
    "from-digits-mlp": _of(
        "Do results of the perceptron help a search on another task?", _transfer("act-bench-digits-mlp")
    ),
    "grid": _of(
        "Every regressor with every feature in both spaces.",
        [
            ON_MAP,
            *(
                f"{r}/{f}/{space}"
                for space in (f"umap{LAYOUTS}", "metric")
                for f in ALL_FEATURES
                for r in ALL_REGRESSORS
            ),
        ],
    ),
}


ON_DEMAND = frozenset(
    {"grid", "families", "choices", "shares", "reflections", "from-others", "from-digits", "from-digits-mlp"}
)
"""The experiments that run only by name: the grid, which contains many of the others, and those over several benchmarks
or between two."""


def experiments_named(names: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments of these names; by default all but those in `ON_DEMAND`.

    Raises:
        AnalysisError: a name is unknown.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise AnalysisError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got '{name}'")
    return {name: EXPERIMENTS[name] for name in (names or [name for name in EXPERIMENTS if name not in ON_DEMAND])}


def section(name: str, experiment: Experiment, comparison: Comparison) -> str:
    """Return a heading, the question and the table."""
    return f"### {name}\n\n{experiment.question}\n\n{table(experiment, comparison)}\n"


def table(experiment: Experiment, comparison: Comparison) -> str:
    """Return the comparison in Markdown, with simulated times where the numbers of workers differ."""
    columns, cells = list(COLUMNS), rows(comparison)
    if len({variant.workers for variant in experiment.variants}) > 1:
        columns.append("seconds to top 1%")
        for row, policy in zip(cells, comparison.measures, strict=True):
            row.append(seconds_text(comparison.spread(policy, "seconds_to_top_1")))
    return markdown(columns, cells)
