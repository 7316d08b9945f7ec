"""The candidates of a run, drawn from a search space: the baselines, then a seeded sample of unique functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aquasurf_ray.activations import (
    ActivationError,
    FunctionTable,
    RoleFunctions,
    SearchSpace,
    fingerprint,
    parse,
    parse_function,
    unique_functions,
)
from aquasurf_ray.activations.registry import own_operators_in
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.activations.standardization import scale_free_digest, standardized
from aquasurf_ray.activations.zoo import baseline_names, expanded
from aquasurf_ray.baselines import BaselineSet
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.store import FunctionRecord, FunctionRow, Store
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.roles import refuse_other_roles

if TYPE_CHECKING:
    from aquasurf_ray.tasks import Task


def function_row(text: str, roles: Sequence[str] | None = None) -> FunctionRow:
    """Return a function, or one for each role, as a row for the store.

    Args:
        text: an expression, or one for each role.
        roles: those of the task; None if no task is known, so that the function is not checked against one.

    Raises:
        BadUse: the text is neither, and the message points at the column; or it is for other roles.
    """
    try:
        function = parse_function(text)
        if isinstance(function, RoleFunctions) and roles is not None:
            refuse_other_roles(tuple(roles), function.roles, function.text)
    except (ActivationError, TaskError) as error:
        raise BadUse(str(error)) from None
    name = str(function)
    return FunctionRow(fingerprint(function), name, function.n_operators, (name,))


def unique_rows(functions: Iterable[str], roles: Sequence[str] | None = None) -> list[FunctionRow]:
    """Return the functions as rows for the store, each once; the word `zoo` stands for all functions of the zoo.

    Raises:
        BadUse: there are none, one cannot be parsed, or one is for other roles.
    """
    rows = {row.fingerprint: row for row in (function_row(text, roles) for text in expanded(functions))}
    if not rows:
        raise BadUse("no functions given; name at least one, such as 'swish(x)'")
    return list(rows.values())


def add_functions(store: Store, rows: Sequence[FunctionRow]) -> list[int]:
    """Add functions to the store, and return the numbers of all, as `Store.add_functions` does.

    An operator of somebody's own is known by its name in a store, which all tasks share, so it has one meaning there.

    Raises:
        BadUse: a function with such an operator is another one in the store.
    """
    refuse_other_meaning(store, rows)
    return store.add_functions(rows)


def refuse_other_meaning(store: Store, rows: Sequence[FunctionRow]) -> None:
    """Refuse functions with operators of somebody's own that are others in the store, under any of their names.

    Raises:
        BadUse: names the function.
    """
    own = {name: row for row in rows for name in (row.name, *row.aliases) if own_operators_in(name)}
    for name, known in store.functions_named(own):
        if known.fingerprint != own[name].fingerprint:
            operators = ", ".join(sorted(own_operators_in(name)))
            raise BadUse(
                f"{name} is in the store already, as a function with other values; a name has one meaning in a store, "
                f"so rename {operators} (for the activation of a network, its class), or use another store"
            )


def known_here(store: Store, functions: Sequence[FunctionRecord]) -> tuple[FunctionRecord, ...]:
    """Return functions of the store under names by which this process computes them. The name in the store may have an
    operator that only another task or module has: the first that the function came from.

    Raises:
        BadUse: an operator of somebody's own has other values than when a function was stored, or is unknown.
    """
    own = {function.id for function in functions if own_operators_in(function.name)}
    aliases = store.aliases(own)
    return tuple(_known(each, aliases.get(each.id, ())) if each.id in own else each for each in functions)


def _known(function: FunctionRecord, aliases: Sequence[str]) -> FunctionRecord:
    for name in (function.name, *aliases):
        try:
            if function_row(name).fingerprint == function.fingerprint:
                return replace(function, name=name)
        except BadUse:  # an operator that this process does not have
            continue
    operators = ", ".join(sorted(own_operators_in(function.name)))
    raise BadUse(
        f"{function.name} of this run has other values here than in the store, or {operators} is unknown: its code has "
        "changed since; restore that, or start another run with a new name for it (for a network's own, its class)"
    )


def refuse_roles(functions: Iterable[str], what: str) -> None:
    """Refuse a function for each role where one function is trained in all places of a network.

    Args:
        what: names what has one function, such as "a Study".

    Raises:
        BadUse: one of the functions is of roles, or no function.
    """
    for text in functions:
        if parts_of(function_row(text).name):
            raise BadUse(
                f"{what} has one function for all places of a network, got {text}; give one function, or use aquasurf "
                "search or evaluate, which take one for each role"
            )


def one_function_baselines(task: Task, what: str) -> tuple[str, ...]:
    """Return a task's baselines where one function is trained in all places of its network: all but its reference, if
    that has a function for each role.

    Raises:
        BadUse: another baseline has a function for each role.
    """
    others = [text for text in task.baselines if text != task.reference]
    refuse_roles(others, what)
    return tuple(text for text in task.baselines if text in others or not parts_of(text))


def one_function_reference(task: Task) -> str | None:
    """Return a task's reference where one function is trained in all places of its network: None, so that gains are
    over ReLU, if that has a function for each role."""
    return None if task.reference is None or parts_of(task.reference) else task.reference


def refuse_baselines(task: Task) -> None:
    """Refuse a task of which a baseline, or the reference, is no function.

    Raises:
        BadUse: names it and what is wrong with it, or says that it is for other roles.
    """
    named = [("baselines", text) for text in task.baselines]
    named += [("reference", task.reference)] if task.reference is not None else []
    for setting, text in named:
        try:
            function_row(text, task.roles)
        except BadUse as error:
            raise BadUse(f"{setting} of task '{task.name}': '{text}': {error}") from None


def baseline_rows(more: Sequence[str] = (), which: BaselineSet = "paper") -> list[FunctionRow]:
    """Return the functions that a search trains first: the eight of the paper or the zoo, and those of the task.

    Raises:
        BadUse: a baseline of the task is not an expression.
    """
    rows: dict[str, FunctionRow] = {}
    for row in map(function_row, (*baseline_names(which), *more)):
        rows.setdefault(row.fingerprint, row)
    return list(rows.values())


def baseline_records(
    store: Store, more: Sequence[str] = (), which: BaselineSet = "paper"
) -> tuple[FunctionRecord, ...]:
    """Return the functions of `baseline_rows` with their numbers in the store; missing ones are added to it."""
    rows = baseline_rows(more, which)
    return tuple(
        FunctionRecord(number, row.fingerprint, row.name, row.n_operators)
        for number, row in zip(add_functions(store, rows), rows, strict=True)
    )


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


def candidate_rows(
    space: SearchSpace, n: int, seed: int, baselines: Sequence[str] = (), which: BaselineSet = "paper"
) -> list[FunctionRow]:
    """Return the baselines and `n` other unique functions of the space, or all of them if the space has fewer.

    `baselines` are those of the task, besides those of the paper or the zoo.
    """
    table = _table(space)
    first = baseline_rows(baselines, which)
    known = {row.fingerprint for row in first}
    # As many more as there are baselines, so that `n` are left when those among the sample are removed.
    drawn = table.sample(min(n + len(first), len(table)), seed, _zoo(space, table))
    others = [i for i in drawn if table.fingerprints[i] not in known]
    return [*first, *(_row(table, i) for i in others[:n])]


def standard_rows(
    space: SearchSpace, n: int, seed: int, baselines: Sequence[str] = (), which: BaselineSet = "paper"
) -> list[FunctionRow]:
    """Return the baselines as they are, and `n` functions in their standard form: the baselines, which show what the
    scale alone does, and then functions drawn from the space. Functions that agree up to a factor and a summand count
    once; those without a standard form are left out."""
    table = _table(space)
    first = baseline_rows(baselines, which)
    rows = {row.fingerprint: row for row in first}
    seen: set[str] = set()
    drawn = (table.names[i] for i in table.sample(len(table), seed, _zoo(space, table)))
    for name in (*(row.name for row in first), *drawn):
        if len(rows) == len(first) + n:
            break
        function = parse_function(name)
        # A baseline of the task may have a function for each role.
        expression = None if isinstance(function, RoleFunctions) else standardized(function)
        if expression is None:
            continue
        twin = scale_free_digest(expression)
        if twin not in seen:
            seen.add(twin)
            row = function_row(str(expression))
            rows.setdefault(row.fingerprint, row)
    return list(rows.values())


def search_rows(config: SearchConfig, space: SearchSpace, baselines: Sequence[str] = ()) -> list[FunctionRow]:
    """Return the functions that a search may train: the baselines, also those of the task, and its candidates."""
    make = standard_rows if config.standardize == "on" else candidate_rows
    rows = make(space, config.candidates, config.seed, baselines, config.baselines)
    if config.learned_parameters == "on":
        return rows
    n = len(baseline_rows(baselines, config.baselines))
    return [*rows[:n], *(row for row in rows[n:] if not parse(row.name).parameters)]


def space_rows(space: SearchSpace, baselines: Sequence[str] = (), which: BaselineSet = "paper") -> list[FunctionRow]:
    """Return the baselines, also those of the task, and all other unique functions of the space, in its order."""
    table = _enumerated(space)
    first = baseline_rows(baselines, which)
    known = {row.fingerprint for row in first}
    return [*first, *(_row(table, i) for i in range(len(table)) if table.fingerprints[i] not in known)]


def _zoo(space: SearchSpace, table: FunctionTable) -> list[int]:
    """Return the functions that the open space begins with: its extra names, which come last among the classes."""
    return table.classes[len(table.classes) - len(space.own_names) :].tolist() if space.grows else []


def _enumerated(space: SearchSpace) -> FunctionTable:
    if space.grows:
        raise BadUse(
            f"space '{space.name}' has no end: it grows while a search runs, and cannot be enumerated; name another"
        )
    return _table(space)


def _table(space: SearchSpace) -> FunctionTable:
    try:
        return unique_functions(space)
    except ActivationError as error:  # the space is too large to enumerate, which the user can change
        raise BadUse(str(error)) from None


def _row(table: FunctionTable, i: int) -> FunctionRow:
    name = table.names[i]
    return FunctionRow(table.fingerprints[i], name, parse(name).n_operators, tuple(table.aliases(i)))
