"""A space of 50 names and 30-odd functions, and what every search algorithm on it has to keep to."""

from __future__ import annotations

from functools import cache

import numpy as np

from aquasurf_ray.activations import Expression, SearchSpace, fingerprint
from aquasurf_ray.analysis.spellings import Spellings
from surrogate.policy import Policy

UNARY = ("identity", "zero", "relu", "abs", "sigmoid")


def space(unary: tuple[str, ...]) -> SearchSpace:
    """The three-node schema with few operators."""
    return SearchSpace.define("small", ["binary(unary(x),unary(x))"], unary=unary, binary=["add", "mul"])


@cache
def world(unary: tuple[str, ...]) -> Spellings:
    """The functions of the space, each with all its names."""
    known: dict[str, list[str]] = {}
    for name in space(unary).names():
        known.setdefault(fingerprint(name), []).append(name)
    return Spellings(tuple(map(tuple, known.values())))


SMALL = space(UNARY)


def small_world() -> Spellings:
    """The functions of `SMALL`."""
    return world(UNARY)


def differences(a: Expression, b: Expression) -> int:
    """At how many nodes two trees of one shape have other operators."""
    return (a.operator != b.operator) + sum(map(differences, a.arguments, b.arguments))


def check_keeps_to_what_is_open(make: type[Policy]) -> None:
    """Suggests each open candidate exactly once, whatever is pending, forbidden or diverged, and then nothing."""
    spellings = small_world()
    n, rng = len(spellings), np.random.default_rng(0)
    allowed = np.ones(n, dtype=bool)
    allowed[[3, 4]] = False
    policy, running, begun = make(spellings, 1), list[int](), list[int]()
    policy.observe(0, 0.5)
    while True:
        suggestion = policy.suggest(running, allowed)
        if suggestion is None and not running:
            break
        if suggestion is not None:
            assert policy.suggest(running, allowed) == suggestion  # asking again changes nothing
            running.append(suggestion.candidate)
            begun.append(suggestion.candidate)
        if suggestion is None or len(running) == 3:
            done = running.pop(int(rng.integers(len(running))))
            policy.observe(done, None if done % 4 == 0 else float(rng.normal()))
    assert sorted([*begun, 0, 3, 4]) == list(range(n))


def trajectory(policy: Policy, n: int) -> list[int]:
    """What a policy trains when scores follow the candidates' numbers."""
    trained = []
    for _ in range(n):
        suggestion = policy.suggest()
        assert suggestion is not None
        trained.append(suggestion.candidate)
        policy.observe(suggestion.candidate, float(np.sin(suggestion.candidate)))
    return trained
