"""The command `show`: everything known about one function.

A function is first looked up as it is written, so that its results can be shown even if its operators are the user's
and their module has been changed, moved or lost since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.family import family_document, family_lines
from aquasurf_ray.cli.terminal.leaderboard import interval, metrics
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import AsJson, Setting
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.driver.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.driver.user_modules import import_modules

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.activations import Expression

app = Commands()

_Learned = dict[int, list[dict[str, Any]]]

_OF_COST = (
    *("device", "time_ratio", "memory_ratio", "step_seconds", "relu_step_seconds"),
    *("activation_bytes", "relu_activation_bytes"),
)
_OF_EVALUATION = (
    *("val_loss", "stopped_early", "seconds", "examples_per_second", "precision", "device", "n_devices"),
    *("reason", "error"),
)


@dataclass(frozen=True)
class _Found:
    """A function as the store knows it and as this process reads it; `problem` says why it cannot be read."""

    known: stored.FunctionHistory | None
    expression: Expression | None
    problem: str | None


@app.command(epilog="Example: aquasurf show 'mul(sigmoid(x),elu(x))'")
def show(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="Function in any spelling, or its fingerprint.")],
    store: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Show everything known about a function.

    Shows its formula, spectra, cost and results, why it was suggested, and in the open space what it was made from.
    """
    from aquasurf_ray.driver.errors import BadUse

    with open_store(store) as opened:
        found = _find(opened, function)
        names = _neighbor_names(opened, found.known) if found.known else {}
        learned = _learned(opened, found.known) if found.known else {}
        families = opened.families(found.known.function.id) if found.known else []
        surrogates = {run.name: run.config.get("surrogate", EARLIER_SURROGATE) for run in opened.runs()}
    if found.known is None and found.expression is None:
        raise BadUse(found.problem or "")
    document = _document(found, names, surrogates, learned)
    document["families"] = [family_document(family) for family in families]
    if as_json:
        print_json(document)
    else:
        _print_function(document)


def _find(store: stored.Store, text: str) -> _Found:
    """Look a function up by name, alias or fingerprint, then by the fingerprint of the parsed text."""
    from aquasurf_ray.activations import fingerprint

    # Names in the store are spelled without spaces.
    known = _history(store, "".join(text.split()))
    expression, problem = _read(known.function.name if known else text, _modules(store, known))
    if known is None and expression is not None:
        known = _history(store, fingerprint(expression))
    return _Found(known, expression, problem)


def _read(text: str, modules: list[str]) -> tuple[Expression | None, str | None]:
    """Return the expression, or why there is none. Modules are the user's code, so run only if the text needs them."""
    from aquasurf_ray.activations import ActivationError, parse
    from aquasurf_ray.driver.errors import BadUse

    lost = []
    # First without any module: most functions need none, and importing one runs the user's code.
    for module in (None, *modules):
        try:
            if module:
                import_modules([module])
            return parse(text), None
        except BadUse as error:
            lost.append(str(error))
        except ActivationError as error:
            problem = str(error)
    return None, "; ".join([problem, *lost])


def _modules(store: stored.Store, known: stored.FunctionHistory | None) -> list[str]:
    """Return the modules of the runs that have the function, or of all runs if the store does not know it."""
    runs = store.runs()
    if known:
        names = {*known.candidate_of, *(item.run for item in known.evaluations)}
        runs = [run for run in runs if run.name in names]
    return list(dict.fromkeys(module for run in runs for module in run.config.get("modules") or ()))


def _document(found: _Found, names: dict[int, str], surrogates: dict[str, str], learned: _Learned) -> dict[str, Any]:
    from aquasurf_ray.activations import fingerprint, latex, words

    known, expression = found.known, found.expression
    return {
        "function": known.function.name if known else str(expression),
        "words": words(expression) if expression else None,
        "latex": latex(expression) if expression else None,
        "unreadable": None if expression else found.problem,
        "fingerprint": known.function.fingerprint if known else expression and fingerprint(expression),
        **(_history_document(known, names, surrogates, learned) if known else _UNKNOWN),
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


def _history(store: stored.Store, digest: str) -> stored.FunctionHistory | None:
    from aquasurf_ray.store import RecordNotFound

    try:
        return store.function_history(digest)
    except RecordNotFound:
        return None  # no run has had this function yet


def _neighbor_names(store: stored.Store, known: stored.FunctionHistory) -> dict[int, str]:
    reasons = [item.request.suggestion for item in known.evaluations if item.request.suggestion]
    ids = {neighbor.function_id for reason in reasons for neighbor in reason.neighbors}
    return {number: record.name for number, record in store.functions(ids).items()}


def _learned(store: stored.Store, known: stored.FunctionHistory) -> _Learned:
    """Return what the function's learned parameters became, by evaluation."""
    numbers = {item.request.evaluation.id for item in known.evaluations}
    return {number: [vars(values) for values in store.learned(number)] for number in numbers}


def _history_document(
    known: stored.FunctionHistory, names: dict[int, str], surrogates: dict[str, str], learned: _Learned
) -> dict[str, Any]:
    return {
        "equal_functions": [alias for alias in known.aliases if alias != known.function.name],
        "candidate_of": list(known.candidate_of),
        "spectra": [
            {"task": s.task, "fisher": s.fisher, "seed": s.seed, "status": s.status, "reason": s.reason}
            for s in known.spectra
        ],
        "costs": [{"task": item.task, **{key: getattr(item.cost, key) for key in _OF_COST}} for item in known.costs],
        "seeds": _seed_documents(known),
        "evaluations": [
            {
                "run": item.run,
                "task": item.task,
                **_evaluation_document(item, names, surrogates[item.run]),
                "learned": learned[item.request.evaluation.id],
            }
            for item in known.evaluations
        ],
    }


def _seed_documents(known: stored.FunctionHistory) -> list[dict[str, Any]]:
    """Return a document for each task with complete trainings of several seeds; a value of None has diverged."""
    by_task: dict[int, dict[int, float | None]] = {}
    tasks = {item.request.evaluation.task_id: item for item in known.evaluations}
    for item in known.evaluations:
        evaluation = item.request.evaluation
        if evaluation.complete:
            by_task.setdefault(evaluation.task_id, {})[evaluation.seed] = evaluation.score
    # One seed has no interval, and its value is shown with its evaluation anyway.
    several = {number: scores for number, scores in by_task.items() if len(scores) > 1}
    return [_seed_document(tasks[number], scores) for number, scores in several.items()]


def _seed_document(wanted: stored.HistoryEntry, scores: dict[int, float | None]) -> dict[str, Any]:
    from aquasurf_ray.analysis.studies.confirmation import all_seeds

    metric, found = wanted.metric, all_seeds(scores)
    low, high = interval(metric, found)
    values = {seed: metric.value(score) for seed, score in sorted(scores.items())}
    imported = wanted.run if wanted.request.origin == "import" else None
    document: dict[str, Any] = {"task": wanted.task, "imported": imported, "metric": metric.name, "values": values}
    return document | {"mean": metric.value(found.mean), "low": low, "high": high}


def _evaluation_document(wanted: stored.HistoryEntry, names: dict[int, str], surrogate: str) -> dict[str, Any]:
    metric, request = wanted.metric, wanted.request
    evaluation, why = request.evaluation, request.suggestion
    document: dict[str, Any] = {"seed": evaluation.seed, "status": evaluation.status, "metric": metric.name}
    document |= metrics(metric, evaluation) | {key: getattr(evaluation, key) for key in _OF_EVALUATION}
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
                    "distance": n.distance,
                    "value": metric.value(n.score),
                    "score": n.score,
                }
                for n in why.neighbors
            ],
        }
    return document


def _print_function(document: dict[str, Any]) -> None:
    print(document["function"])
    if document["unreadable"]:
        print(f"  unreadable   {document['unreadable']}")
    else:
        print(f"  in words     {document['words']}")
        print(f"  LaTeX        {document['latex']}")
    print(f"  fingerprint  {document['fingerprint']}")
    equal = document["equal_functions"]
    if equal:
        more = f" and {len(equal) - 5} more" if len(equal) > 5 else ""
        print(f"  equal to     {', '.join(equal[:5])}{more}")
    for spectrum in document["spectra"]:
        reason = f": {spectrum['reason']}" if spectrum["reason"] else ""
        what = f"{spectrum['task']}, {spectrum['fisher']}, seed {spectrum['seed']}"
        print(f"  spectrum     {what}, {spectrum['status']}{reason}")
    for cost in document["costs"]:
        ratios = f"{cost['time_ratio']:.2f} x the step time of ReLU, {cost['memory_ratio']:.2f} x its activation memory"
        print(f"  cost         {cost['task']} on {cost['device']}: {ratios}")
    for seeds in document["seeds"]:
        values = ", ".join("diverged" if value is None else f"{value:.4f}" for value in seeds["values"].values())
        numbers = ", ".join(map(str, seeds["values"]))
        of = seeds["task"] if seeds["imported"] is None else f"{seeds['task']} as run '{seeds['imported']}' (imported)"
        print(f"  seeds        {of}, val_{seeds['metric']} with seeds {numbers}: {values}")
        if seeds["mean"] is not None:
            low, high = seeds["low"], seeds["high"]
            print(f"  mean         {seeds['mean']:.4f}, 95% interval {low:.4f} to {high:.4f}")
    for evaluation in document["evaluations"]:
        _print_evaluation(evaluation)
    if not document["evaluations"]:
        print("  not trained in this store")
    for family in document["families"]:
        for line in family_lines(family):
            print(f"  {line}")


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    print(f"  run '{evaluation['run']}', task {evaluation['task']}, seed {evaluation['seed']}: {evaluation['status']}")
    metric = evaluation["metric"]
    for key in dict.fromkeys((f"val_{metric}", f"test_{metric}", "val_loss")):
        if evaluation[key] is not None:
            print(f"    {key:<16} {evaluation[key]:.4f}")
    if evaluation["precision"]:
        print(f"    {'training':<16} {_how_trained(evaluation)}")
    for key in ("stopped_early", "reason", "error"):
        if evaluation[key]:
            print(f"    {key.replace('_', ' '):<16} {evaluation[key]}")
    for values in evaluation["learned"]:
        print(f"    {'learned':<16} {_how_learned(values)}")
    why = evaluation["suggestion"]
    origin = f"{evaluation['origin']}, number {evaluation['position'] + 1} of the run"
    print(f"    {'origin':<16} {origin}{', result reused from another run' if evaluation['reused'] else ''}")
    if why:
        predicted = "none" if why["predicted"] is None else f"{why['predicted']:.4f}"
        print(f"    {'predicted':<16} {predicted}, rank {why['rank']} of the remaining candidates")
        # Distances on a map have no unit; those of the metric surrogate are scaled by their median.
        unit = " of the median distance" if why["surrogate"] == "metric" else ""
        for neighbor in why["nearest_trained"]:
            value = "diverged" if neighbor["score"] is None else f"{neighbor['value']:.4f}"
            print(f"    {'neighbor':<16} {neighbor['function']}: {value}, {neighbor['distance']:.3f}{unit} away")
        basis = "features" if why["features_version"] else "embedding"
        print(f"    {basis:<16} {why[f'{basis}_version']}")


def _how_learned(values: dict[str, Any]) -> str:
    """Return what one parameter became: `a of layer '1': 0.25 to 0.18 (spread 0.05 over 64 channels); 0.21, 0.18`."""
    n, course = values["n_channels"], values["course"]
    spread = f" (spread {values['spread']:.3g} over {n} channels)" if n else ""
    every = max(1, -(-len(course) // 6))  # at most six points of the course, the last one among them
    points = ", ".join(f"{mean:.4g}" for mean in course[::-1][::every][::-1])
    became = f"{values['initial']:.4g} to {values['mean']:.4g}{spread}"
    return f"{values['parameter']} of layer '{values['layer']}': {became}; course {points}"


def _how_trained(evaluation: dict[str, Any]) -> str:
    """Return how an evaluation was trained: `bfloat16 on 4 x NVIDIA H100, 120.5 s, 31000 examples/s`."""
    n, rate = evaluation["n_devices"] or 1, evaluation["examples_per_second"]
    parts = [f"{evaluation['precision']} on {f'{n} x ' if n > 1 else ''}{evaluation['device']}"]
    parts += [] if evaluation["seconds"] is None else [f"{evaluation['seconds']:.1f} s"]
    parts += [] if rate is None else [f"{rate:.0f} examples/s"]
    return ", ".join(parts)
