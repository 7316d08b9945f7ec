"""The command `show`: everything known about one function.

A function is first looked up as it is written, so that its results can be shown even if its operators are the user's
and their module has been changed, moved or lost since.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.family import family_document
from aquasurf_ray.cli.terminal.function_document import FoundFunction, Learned, function_document
from aquasurf_ray.cli.terminal.function_lines import print_function
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, ReaderModules, StoreOption
from aquasurf_ray.driver.user_modules import import_modules, register_values_of

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.activations import Function

app = Commands()


@app.command(epilog="Example: aquasurf show 'mul(sigmoid(x),elu(x))'")
def show(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="Function in any spelling, or its fingerprint.")],
    modules: ReaderModules = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Show everything known about a function.

    Shows its formula, spectra, cost and results, why it was suggested, and in the open space what it was made from.
    """
    from aquasurf_ray.driver.errors import BadUse

    import_modules(modules or ())
    with open_store(store) as opened:
        found = _find(opened, function)
        names = _neighbor_names(opened, found.known) if found.known else {}
        learned = _learned(opened, found.known) if found.known else {}
        families = opened.families(found.known.function.id) if found.known else []
        runs = {run.name: run for run in opened.runs()}
    if found.known is None and found.expression is None:
        from aquasurf_ray.driver.operator_origin import origins_told  # reads the runs again

        with origins_told([function], store):
            raise BadUse(found.problem or "")
    document = function_document(found, names, runs, learned)
    document["families"] = [family_document(family) for family in families]
    if as_json:
        print_json(document)
    else:
        print_function(document)


def _find(store: stored.Store, text: str) -> FoundFunction:
    """Look a function up by name, alias or fingerprint, then the parsed text by its spelling and its fingerprint."""
    # Names in the store are spelled without spaces.
    known = _history(store, "".join(text.split()))
    expression, problem = _read(known.function.name if known else text, _runs(store, known), is_known=known is not None)
    if known is None and expression is not None:
        known = _history(store, str(expression))
    if known is None and expression is not None:
        from aquasurf_ray.activations import fingerprint  # loads PyTorch

        known = _history(store, fingerprint(expression))
    return FoundFunction(known, expression, problem)


def _read(text: str, runs: Sequence[stored.Run], *, is_known: bool) -> tuple[Function | None, str | None]:
    """Return the expression, or why there is none. Modules are the user's code, so run only if the text needs them;
    where they and the task's network are lost, a function that the store knows is read with its operators' values."""
    from aquasurf_ray.activations import ActivationError, parse_function
    from aquasurf_ray.driver.errors import BadUse

    lost = []
    modules = dict.fromkeys(module for run in runs for module in run.config.get("modules") or ())
    sources = [partial(import_modules, [module]) for module in modules]
    sources += [partial(register_values_of, run) for run in runs if is_known]
    # First without any of them: most functions need none, and importing a module runs the user's code.
    for register in (None, *sources):
        try:
            if register is not None:
                register()
            return parse_function(text), None
        except BadUse as error:
            lost.append(str(error))
        except ActivationError as error:
            problem = str(error)
    return None, "; ".join([problem, *lost])


def _runs(store: stored.Store, known: stored.FunctionHistory | None) -> list[stored.Run]:
    """Return the runs that have the function, or all runs if the store does not know it."""
    if known is None:
        return list(store.runs())
    names = {*known.candidate_of, *(item.run for item in known.evaluations)}
    return [run for run in store.runs() if run.name in names]


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


def _learned(store: stored.Store, known: stored.FunctionHistory) -> Learned:
    """Return the values that the function's learned parameters reached, by evaluation."""
    numbers = {item.request.evaluation.id for item in known.evaluations}
    return {number: [vars(values) for values in store.learned(number)] for number in numbers}
