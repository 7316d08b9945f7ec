"""New functions per role from known ones: one role of a good parent changed, or each role taken from one of two.

A space of m functions has m^r functions for r roles, which are never enumerated. A search begins with functions that
are alike in all roles, and its children then move away from the best of them: `CHANGED` gives one role another function
(a step along one coordinate), `JOINED` takes each role's from one of two parents (a step in several). Parents are best
first, and better ones are drawn more often, as in `spaces.growth`.

Everything random follows from the seed, a text, through `random.Random.random` alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.identity import N_POINTS, fingerprint_of_roles
from aquasurf_ray.activations.roles import Function, function_of, same_or_by_role
from aquasurf_ray.activations.spaces.evaluation import Evaluated, Evaluator

CHANGED, JOINED = "change role", "join roles"
SHARE_CHANGED = 0.75  # a joint step recombines what the others found, so most children are steps of one role
SHARE_OF_PARENTS = 0.5  # of the functions that a role gets: from a good parent; the others come from the pool
_TRIES_A_CHILD = 20


@dataclass(frozen=True)
class RoleChild:
    """A new function per role, the name of the change that made it, and the positions of its parents."""

    function: Function
    change: str
    parents: tuple[int, ...]


def role_children(
    parents: Sequence[Function], pool: Sequence[Expression], roles: Sequence[str], n: int, seed: str
) -> list[RoleChild]:
    """Return up to n children with different spellings, none that of a parent, none alike in all roles.

    Args:
        parents: the functions to change, best first, with roles or alike in all of them.
        pool: functions that a role may get besides those of the parents.
        roles: the network's.
        n: the number of children; fewer are returned if hardly any more can be found.
        seed: decides every random choice.

    >>> from aquasurf_ray.activations.expression import parse
    >>> [str(child.function) for child in role_children([parse("relu")], [parse("swish")], ("early", "late"), 2, "1")]
    ['early=relu(x);late=swish(x)', 'early=swish(x);late=relu(x)']
    """
    share = random.Random(seed).random  # noqa: S311 - not for cryptography

    def below(n: int) -> int:
        return int(n * share())

    def drawn() -> int:
        # Half of the draws come from the best quarter.
        return int(len(parents) * share() ** 2)

    found, taken = list[RoleChild](), {str(parent) for parent in parents}
    used: tuple[int, ...]
    for _ in range(_TRIES_A_CHILD * n if parents else 0):
        if len(found) == n:
            break
        first, second, role = drawn(), drawn(), roles[below(len(roles))]
        functions = {each: function_of(parents[first], each) for each in roles}
        if share() < SHARE_CHANGED:
            change, used = CHANGED, (first,)
            if pool and share() >= SHARE_OF_PARENTS:
                functions[role] = pool[below(len(pool))]
            else:
                # From any of its roles: what is good early may be good late.
                functions[role] = function_of(parents[second], roles[below(len(roles))])
                used = tuple(dict.fromkeys((first, second)))
        else:
            change, used = JOINED, (first, second)
            functions = {each: function_of(parents[used[below(2)]], each) for each in roles}
        child = same_or_by_role(functions)
        if not isinstance(child, Expression) and str(child) not in taken:
            taken.add(str(child))
            found.append(RoleChild(child, change, used))
    return found


def evaluated(
    evaluator: Evaluator, functions: Sequence[Function], roles: Sequence[str], *, identify: bool = True
) -> Evaluated:
    """Return the outputs of functions in all r roles, float32 [n, 1000 r] as `identity.outputs_of_roles`; finite where
    all roles are, and constant where one is, because no gradient passes it. Without roles, the result is that of
    `Evaluator.evaluate`, which also says what `identify` means."""
    roles = sorted(roles) or [""]
    parts = list(dict.fromkeys(function_of(function, role) for function in functions for role in roles))
    place = {part: i for i, part in enumerate(parts)}
    found = evaluator.evaluate(parts, identify=identify)
    rows = np.array([[place[function_of(each, role)] for role in roles] for each in functions], dtype=np.int64)
    rows = rows.reshape(len(functions), len(roles))
    identities = [{role: found.fingerprints[i] for role, i in zip(roles, row, strict=True)} for row in rows.tolist()]
    return Evaluated(
        # Unless they are identified, functions with learned parameters have no fingerprint.
        [fingerprint_of_roles(each) if all(each.values()) else "" for each in identities],
        found.outputs[rows].reshape(len(functions), len(roles) * N_POINTS),
        np.asarray(found.finite[rows].all(axis=1)),
        np.asarray(found.constant[rows].any(axis=1)),
    )
