"""The origin of an operator that this process does not know: another run's task, or a module that it imported.

A function in a store may have an operator of somebody's own, which only the process of its run had. The parser knows no
store, and takes such an operator for a misspelled one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aquasurf_ray.activations import ActivationError, parse_function
from aquasurf_ray.activations.registry import find_operator, own_operators_in
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.store import RecordNotFound, Run, Store, StoreError

GIVE = "give --modules {}"


@contextmanager
def origins_told(functions: Iterable[str], url: str | None, remedy: str = GIVE) -> Iterator[None]:
    """Say of an operator on which reading these functions fails which run of the store has it, and how to get it.

    Args:
        url: the store; by default as `store_url` finds it.
        remedy: what to do with the module that has the operator, whose name is filled in.

    Raises:
        BadUse: names the operator, its run and the remedy, in place of the error that says that it is unknown.
    """
    try:
        yield
    except (BadUse, ActivationError, AnalysisError) as error:
        said = next(_told(functions, store_url(url), remedy), None)
        if said is None:
            raise
        raise BadUse(said) from error


def origin_of(store: Store, text: str, remedy: str = GIVE) -> str | None:
    """Return a sentence on an unknown operator of a function: the run that has it, and the remedy. None if all are
    known, or the store has no such run."""
    for operator in sorted(_unknown_in(text)):
        runs = store.runs()
        of_task = next((run for run in runs if operator in (run.config.get(OWN_OPERATORS) or ())), None)
        if of_task is not None:
            return _of_task(operator, of_task, remedy)
        importing = next((run for run in _runs_with(store, runs, text) if run.config.get("modules")), None)
        if importing is not None:
            modules = " --modules ".join(importing.config["modules"])
            has = f"unknown operator '{operator}': run '{importing.name}' has it from its own modules"
            return f"{has}; {remedy.format(modules)}"
    return None


def _told(functions: Iterable[str], url: str, remedy: str) -> Iterator[str]:
    unread = [text for text in functions if _unknown_in(text)]
    try:
        if not unread or not Store.exists(url):
            return
        with Store.open(url, create=False) as store:
            yield from (said for text in unread if (said := origin_of(store, text, remedy)) is not None)
    except StoreError:  # a command that needs no store keeps its own error; another one has opened its store before
        return


def _unknown_in(text: str) -> set[str]:
    """Return the operators of a function that cannot be read which this process does not know."""
    try:
        parse_function(text)
    except ActivationError:
        named = own_operators_in(text) | {text.strip()}  # an operator's name alone is a function too
        return {name for name in named if find_operator(name) is None}
    return set()


def _of_task(operator: str, run: Run, remedy: str) -> str:
    task = str(run.config.get("task"))
    module = task.partition(":")[0] if ":" in task else "MODULE"
    return (
        f"unknown operator '{operator}': it is an own activation of task '{task}' (run '{run.name}'), which only "
        f"that task registers; call register_unary('{operator}', ...) in a module, and {remedy.format(module)}"
    )


def _runs_with(store: Store, runs: Iterable[Run], text: str) -> list[Run]:
    """Return the runs that have a function, by its name in the store."""
    try:
        known = store.function_history("".join(text.split()))
    except RecordNotFound:
        return []
    names = {*known.candidate_of, *(item.run for item in known.evaluations)}
    return [run for run in runs if run.name in names]
