"""The candidates of a run, drawn from a search space: the baselines, then a seeded sample of unique functions."""

from __future__ import annotations

from aquasurf_ray.activations import (
    BASELINES,
    ActivationError,
    FunctionTable,
    SearchSpace,
    fingerprint,
    parse,
    unique_functions,
)
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import FunctionRow


def function_row(text: str) -> FunctionRow:
    """Return a function as a row for the store.

    Raises:
        BadUse: the text is not an expression; the message points at the column.
    """
    try:
        expression = parse(text)
    except ActivationError as error:
        raise BadUse(str(error)) from None
    name = str(expression)
    return FunctionRow(fingerprint(expression), name, expression.n_operators, (name,))


def baseline_rows() -> list[FunctionRow]:
    """Return the eight functions that every search trains first."""
    return [function_row(name) for name in BASELINES]


def load_space(name: str) -> SearchSpace:
    """Return a search space, by name or from a YAML file.

    Raises:
        BadUse: there is no such space, or the file does not define one.
    """
    try:
        return SearchSpace.load(name)
    except (ActivationError, OSError) as error:
        raise BadUse(str(error)) from None


def function_table(space: str) -> FunctionTable:
    """Return the unique functions of a space, by name or from a YAML file.

    Raises:
        BadUse: there is no such space, or it is too large to be enumerated.
    """
    return _enumerated(load_space(space))


def candidate_rows(space: SearchSpace, n: int, seed: int) -> list[FunctionRow]:
    """Return the baselines and `n` other unique functions of the space, or all of them if the space has fewer."""
    table = _enumerated(space)
    baselines = baseline_rows()
    known = {row.fingerprint for row in baselines}
    # As many more as there are baselines, so that `n` are left when those among the sample are removed.
    drawn = table.sample(min(n + len(baselines), len(table)), seed)
    others = [i for i in drawn if table.fingerprints[i] not in known]
    return [*baselines, *(_row(table, i) for i in others[:n])]


def space_rows(space: SearchSpace) -> list[FunctionRow]:
    """Return the baselines and all other unique functions of the space, in the order of the space."""
    table = _enumerated(space)
    baselines = baseline_rows()
    known = {row.fingerprint for row in baselines}
    return [*baselines, *(_row(table, i) for i in range(len(table)) if table.fingerprints[i] not in known)]


def _enumerated(space: SearchSpace) -> FunctionTable:
    try:
        return unique_functions(space)
    except ActivationError as error:  # the space is too large to enumerate, which the user can change
        raise BadUse(str(error)) from None


def _row(table: FunctionTable, i: int) -> FunctionRow:
    name = table.names[i]
    return FunctionRow(table.fingerprints[i], name, parse(name).n_operators, tuple(table.aliases(i)))
