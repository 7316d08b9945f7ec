"""The command `status`: the state of runs."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.activity import activity_document, as_it_is
from aquasurf_ray.analysis.studies.headline import best_of_run, finished_confirmation, other_confirmations
from aquasurf_ray.analysis.studies.run_origin import TRANSFERRED, how_to_continue
from aquasurf_ray.cli.terminal.activity import print_activity
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, print_table
from aquasurf_ray.cli.terminal.run_document import DIVERGENCE_COLUMNS, FAILURE_COLUMNS, run_settings, status_document
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, StoreOption
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    import aquasurf_ray.store as stored

app = Commands()

OVERVIEW_COLUMNS = (
    *("run", "task", "status", "evaluations", "spectra", "failed"),
    *("metric", "best", "best_confirmed", "best_seeds", "best_function"),
)
OF_MEANS = ("best_confirmed", "best_seeds")  # what kind of mean a best score is; most are none
DIVERGENCES_SHOWN = 50  # a benchmark has thousands


@app.command(epilog="Example: aquasurf status digits-1")
def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of a run. Default: all runs.")] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of runs: progress, failures and best function.

    For a single run, also shows its driver, its workers and the reasons of failures.
    """
    where = store_option(store)
    with open_store(store) as opened:
        runs = [opened.run(name)] if name else opened.runs()
        activities = [opened.activity(run.id) for run in runs]
        found = [opened.status(run.id) for run in runs]
        all_runs = None if name else runs
        documents = [
            as_it_is(status_document(one, best_of_run(opened, one, all_runs), where), one.run, activity)
            for one, activity in zip(found, activities, strict=True)
        ]
        now = activity_document(activities[0], opened.failure_causes(runs[0].id)) if name else {}
        others = _other_verdicts(opened, runs[0]) if name else []
        said = _verdict(opened, runs[0]) if name else None
    if as_json:
        documents = [doc | {"settings": run_settings(run)} for run, doc in zip(runs, documents, strict=True)]
        print_json(documents[0] | now | {"verdict": said, "other_verdicts": others} if name else documents)
        return
    documents = [doc | {"best_function": _best_function(doc)} for doc in documents]
    if name:  # which has a line for the change of the recipe
        _print_status(documents[0])
        for line in [*([said] if said else []), *others]:
            print(f"\n{line}")
        print_activity(now)
    elif documents:
        filled = {column for document in documents for column, value in document.items() if value is not None}
        columns = [column for column in OVERVIEW_COLUMNS if column in filled or column not in OF_MEANS]
        shown = [document | {"evaluations": _in_total(document)} | _best_trained(document) for document in documents]
        print_rows(columns, [[document[column] for column in columns] for document in shown], Format.table)
        for run, document in zip(runs, documents, strict=True):
            # A dead driver cannot report its death itself, so the overview does, with the command that helps.
            if document["status"] == "dead":
                again = how_to_continue(run.name, run.config, where)
                print(f"the driver of run '{run.name}' has died; resume with: {again}", file=sys.stderr)
    else:
        print("no runs yet; start one with: aquasurf search digits")


def _verdict(opened: stored.Store, run: stored.Run) -> str | None:
    """Return the verdict on a run; None where nothing was tested."""
    is_tested = run.kind == "confirm" or TRANSFERRED in run.config
    if not is_tested and finished_confirmation(opened.runs(), run) is None:
        return None
    from aquasurf_ray.analysis.studies.verdict import verdict_of  # loads the expression language

    said = verdict_of(opened, run)
    return None if said is None else said.sentence


def _best_function(document: dict[str, Any]) -> str | None:
    """Return the best function for people, who take a baseline for a find unless it is marked."""
    from aquasurf_ray.analysis.studies.reference import marked  # loads the store, which --help should not wait for

    function = document["best_function"]
    return function and marked(readable(function), baseline=document["best_is_baseline"], reference=False)


def _other_verdicts(opened: stored.Store, run: stored.Run) -> list[str]:
    """Return a line on each confirmation of a run besides the one that its best function is said by."""
    others = other_confirmations(opened, run)
    if not others:
        return []
    from aquasurf_ray.analysis.studies.verdict import other_verdict  # loads the expression language

    return [other_verdict(other) for other in others]


def _print_status(document: dict[str, Any]) -> None:
    failures, divergences = document["failures"], document["divergences"]
    lines = {f"best {document['metric']}" if key == "best" else key.replace("_", " "): v for key, v in document.items()}
    lines["evaluations"] = _evaluations_text(document)
    # The lists have tables of their own below, the counts are in one line, and the rest is for programs.
    counts = ("finished baselines", "wanted", "budget", "baselines")
    for known in ("failures", "divergences", "metric", "best score", "best is baseline", *counts):
        del lines[known]
    for often_unknown in ("best confirmed", "best seeds", "best noise", "best recipe change"):
        if lines[often_unknown] is None:
            del lines[often_unknown]
    width = max(map(len, lines))
    for key, value in lines.items():
        shown = "-" if value is None else value_text(value) if isinstance(value, float) else value
        print(f"{key:<{width}}  {shown}")
    if failures:
        print("\nfailed:")
        _print_causes(FAILURE_COLUMNS, failures)
    if divergences:
        print("\ndiverged:")
        _print_causes(DIVERGENCE_COLUMNS, divergences[:DIVERGENCES_SHOWN])
    if len(divergences) > DIVERGENCES_SHOWN:
        run = shlex.quote(f"run={document['run']}")
        print(
            f"and {len(divergences) - DIVERGENCES_SHOWN} more; by reason: aquasurf query --example diverged --set {run}"
        )


def _best_trained(document: dict[str, Any]) -> dict[str, Any]:
    """Return the best function with the change of the recipe that it was trained with."""
    best, change = document["best_function"], document["best_recipe_change"]
    return {"best_function": best and with_change(best, change or "")}


def _in_total(document: dict[str, Any]) -> str:
    """Return the number of results and that of all evaluations, both with the baselines.

    >>> _in_total({"evaluations": 1, "wanted": 15}), _in_total({"evaluations": 1, "wanted": None})
    ('1/15', '1')
    """
    n, wanted = document["evaluations"], document["wanted"]
    return str(n) if wanted is None else f"{n}/{wanted}"


def _evaluations_text(document: dict[str, Any]) -> str:
    """Return the number of results, and which of them count towards the budget: baselines do not.

    >>> _evaluations_text({"evaluations": 15, "finished_baselines": 9, "wanted": 15, "budget": 6})
    '15 (9 baselines and 6 of 6)'
    """
    n, n_baselines, budget = document["evaluations"], document["finished_baselines"], document["budget"]
    if document["wanted"] == budget:  # no baselines beside the budget, or no budget
        return _in_total(document)
    return f"{n} ({counted(n_baselines, 'baseline')} and {n - n_baselines} of {budget})"


def _print_causes(columns: tuple[str, ...], documents: list[dict[str, Any]]) -> None:
    """Print a table; the changes of recipes are left out where there are none."""
    shown = [key for key in columns if key != "recipe_change" or any(document[key] for document in documents)]
    print_table(shown, [[document[key] for key in shown] for document in documents])
