"""Everything known about one function as one document, which `show` prints as JSON or as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aquasurf_ray import activations
from aquasurf_ray.analysis.studies.run_origin import STUDY
from aquasurf_ray.cli.terminal.leaderboard import interval, metrics
from aquasurf_ray.driver.settings.surrogate_names import EARLIER_SURROGATE

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.activations import Function

Learned = dict[int, list[dict[str, Any]]]
_OF_COST = (
    *("device", "time_ratio", "memory_ratio", "step_seconds", "relu_step_seconds"),
    *("activation_bytes", "relu_activation_bytes"),
)
_OF_EVALUATION = (
    *("val_loss", "stopped_early", "seconds", "examples_per_second", "precision", "device", "n_devices"),
    *("reason", "error"),
)


@dataclass(frozen=True)
class FoundFunction:
    """A function as the store knows it and as this process reads it; `problem` says why it cannot be read."""

    known: stored.FunctionHistory | None
    expression: Function | None
    problem: str | None


def function_document(
    found: FoundFunction, names: dict[int, str], runs: Mapping[str, stored.Run], learned: Learned
) -> dict[str, Any]:
    """Return everything known about a function.

    Args:
        names: the functions that are neighbours in a suggestion, by number.
        runs: all runs of the store by name.
        learned: the values of the learned parameters, by evaluation.
    """
    from aquasurf_ray.activations import latex, words

    known, expression = found.known, found.expression
    return {
        "function": known.function.name if known else str(expression),
        "words": words(expression) if expression else None,
        "latex": latex(expression) if expression else None,
        "unreadable": None if expression else found.problem,
        "fingerprint": known.function.fingerprint if known else expression and activations.fingerprint(expression),
        **(_history_document(found, known, names, runs, learned) if known else _UNKNOWN),
    }


# A function that no run has had gets the same keys, so that programs need not ask which they have.
_UNKNOWN: dict[str, Any] = {
    "equal_functions": [],
    "candidate_of": [],
    "spectra": [],
    "costs": [],
    "seeds": [],
    "evaluations": [],
}


def _history_document(
    found: FoundFunction,
    known: stored.FunctionHistory,
    names: dict[int, str],
    runs: Mapping[str, stored.Run],
    learned: Learned,
) -> dict[str, Any]:
    learns = found.expression is not None and bool(found.expression.parameters)
    return {
        "equal_functions": [alias for alias in known.aliases if alias != known.function.name],
        "candidate_of": list(known.candidate_of),
        "spectra": [
            {"task": s.task, "fisher": s.fisher, "seed": s.seed, "status": s.status, "reason": s.reason}
            for s in known.spectra
        ],
        "costs": [{"task": item.task, **{key: getattr(item.cost, key) for key in _OF_COST}} for item in known.costs],
        "seeds": _seed_documents(known, runs),
        "evaluations": [
            {
                "run": item.run,
                "task": item.task,
                **_evaluation_document(item, names, runs[item.run].config.get("surrogate", EARLIER_SURROGATE)),
                "learned": learned[item.request.evaluation.id],
                "learned_in_own_loop": learns and STUDY in runs[item.run].config,
            }
            for item in known.evaluations
        ],
    }


def _seed_documents(known: stored.FunctionHistory, runs: Mapping[str, stored.Run]) -> list[dict[str, Any]]:
    """Return a document for each task and change of its recipe with complete trainings of several seeds; a value of
    None has diverged."""
    by_recipe: dict[tuple[int, str], list[stored.HistoryEntry]] = {}
    for item in known.evaluations:
        evaluation = item.request.evaluation
        if evaluation.complete:
            by_recipe.setdefault((evaluation.task_id, evaluation.recipe_change), []).append(item)
    # One seed has no interval, and its value is shown with its evaluation anyway.
    several = [items for items in by_recipe.values() if len({each.request.evaluation.seed for each in items}) > 1]
    return [_seed_document(items, runs) for items in several]


def _seed_document(items: Sequence[stored.HistoryEntry], runs: Mapping[str, stored.Run]) -> dict[str, Any]:
    from aquasurf_ray.analysis.studies.confirmation import all_seeds

    wanted, metric = items[-1], items[-1].metric
    scores = {each.request.evaluation.seed: each.request.evaluation.score for each in items}
    averaged, selecting = _averaged_seeds(items, runs)
    found = all_seeds({seed: scores[seed] for seed in averaged})
    low, high = interval(metric, found)
    return {
        "task": wanted.task,
        "recipe_change": wanted.request.evaluation.recipe_change or None,
        "imported": wanted.run if wanted.request.origin == "import" else None,
        "metric": metric.name,
        "values": {seed: metric.value(score) for seed, score in sorted(scores.items())},
        "selecting_seeds": selecting,
        "mean_seeds": averaged,
        "mean": metric.value(found.mean),
        "low": low,
        "high": high,
    }


def _averaged_seeds(
    items: Sequence[stored.HistoryEntry], runs: Mapping[str, stored.Run]
) -> tuple[list[int], list[int]]:
    """Return the seeds that a mean is over, and those that a search selected by, whose scores are biased upwards.

    The mean is over the judging seeds of confirmations, or else over the seeds that no search has had; if there are no
    others, it is over the selecting ones.
    """
    searched, judged = set(), set()
    for each in items:
        run, seed = runs[each.run], each.request.evaluation.seed
        if run.kind == "search":
            searched.add(seed)
        if run.kind == "confirm" and 0 <= seed - int(run.config["first_seed"]) < int(run.config["seeds"]):
            judged.add(seed)
    seeds = {each.request.evaluation.seed for each in items}
    return sorted(judged or seeds - searched or seeds), sorted(searched)


def _evaluation_document(wanted: stored.HistoryEntry, names: dict[int, str], surrogate: str) -> dict[str, Any]:
    metric, request = wanted.metric, wanted.request
    evaluation, why = request.evaluation, request.suggestion
    document: dict[str, Any] = {"seed": evaluation.seed, "recipe_change": evaluation.recipe_change or None}
    document |= {"status": evaluation.status, "metric": metric.name}
    # The metric last: a study's may have the name of another column, such as val_loss.
    document |= {key: getattr(evaluation, key) for key in _OF_EVALUATION} | metrics(metric, evaluation)
    document |= {"origin": request.origin, "position": request.position, "reused": request.reused, "suggestion": None}
    if why:
        document["suggestion"] = {
            "predicted": metric.value(why.predicted_score),
            "predicted_score": why.predicted_score,
            "rank": why.rank,
            "surrogate": surrogate,
            # One column of the store holds the version of what the surrogate measured on: a map, or the features
            # themselves.
            "embedding_version": None if surrogate == "metric" else why.embedding_version,
            "features_version": why.embedding_version if surrogate == "metric" else None,
            "nearest_trained": [
                {
                    "function": names.get(n.function_id),
                    "recipe_change": n.recipe_change or None,
                    "distance": n.distance,
                    "value": metric.value(n.score),
                    "score": n.score,
                }
                for n in why.neighbors
            ],
        }
    return document
