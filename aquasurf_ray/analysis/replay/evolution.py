"""Regularised evolution over expressions, a competitor of the surrogate search.

Real, Aggarwal, Huang and Le 2019 (arXiv 1802.01548), algorithm 1: a population of the youngest results; the best of a
random tournament is mutated; the oldest dies. A mutation replaces one operator by another of the same kind. A mutant
that is known, running or not in the benchmark costs nothing and is drawn again; where the neighbourhood is exhausted,
mutants get more mutations. With pending evaluations this is asynchronous evolution, as in that article.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.registry import operator_named
from aquasurf_ray.analysis.replay.spellings import Spellings
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.policy import NOTHING, Policy, Suggestion, open_mask

TRIES_A_DISTANCE = 20  # draws before mutants get one mutation more
MAX_MUTATIONS = 5  # after these a random candidate is taken
DIVERGED = float("-inf")


class EvolutionPolicy(Policy):
    """Suggest a mutant of a young function with a good score.

    A suggestion depends on the seed, on the results in the order of their observation, and on the arguments. Results
    that were not suggested (the baselines) belong to the population too. The article's sizes (100 and 25) are for
    thousands of evaluations; the defaults here are for a hundred.

    Args:
        spellings: the names of the candidates.
        seed: the random seed.
        population: the number of youngest results that can have offspring; until there are as many, candidates are
            random.
        tournament: the number of results drawn from the population, of which the best is mutated.

    Raises:
        SurrogateError: a size is below 1, or the tournament is larger than the population.
    """

    def __init__(self, spellings: Spellings, seed: int = 0, *, population: int = 20, tournament: int = 5) -> None:
        if not 1 <= tournament <= population:
            raise SurrogateError(f"tournament must be from 1 to the population {population}, got {tournament}")
        self._spellings, self._seed = spellings, seed
        self._population, self._tournament = population, tournament
        self._scores: dict[int, float] = {}  # scores by candidate, the youngest last
        self._genomes: dict[int, Expression] = {}

    def observe(self, candidate: int, score: float | None) -> None:
        """Record a result as the youngest of the population; None for a diverged training."""
        # Popped first, so that a repeated result becomes the youngest in the dictionary's order.
        self._scores.pop(candidate, None)
        self._scores[candidate] = DIVERGED if score is None else float(score)

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: NDArray[np.bool_] | None = None) -> Suggestion | None:
        """Return a mutant, or a random candidate while the population grows; None when none is open."""
        running = sorted(set(pending) - self._scores.keys())
        open_ = open_mask(len(self._spellings), [*self._scores, *running], allowed)
        if not open_.any():
            return None
        # Seeded by the state of the search, so that asking again in the same state gives the same suggestion.
        rng = np.random.default_rng([self._seed, len(self._scores), *running])
        found = self._mutant(open_, rng) if len(self._scores) + len(running) >= self._population else None
        candidate, genome = found or self._random(open_, rng)
        # Offspring mutate the spelling that was drawn, not another name of the same function.
        self._genomes[candidate] = genome
        return Suggestion(candidate, None, 1, (), "")

    def _mutant(self, open_: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, Expression] | None:
        alive = list(self._scores)[-self._population :]
        for mutations in range(1, MAX_MUTATIONS + 1):
            for _ in range(TRIES_A_DISTANCE):
                genome = self._genome(self._parent(alive, rng))
                for _ in range(mutations):
                    genome = self._mutate(genome, rng)
                candidate = self._spellings.find(str(genome))
                if candidate is not None and open_[candidate]:
                    return candidate, genome
        return None

    def _parent(self, alive: list[int], rng: np.random.Generator) -> int:
        drawn = rng.choice(len(alive), size=min(self._tournament, len(alive)), replace=False)
        best: int = max((alive[i] for i in drawn.tolist()), key=lambda candidate: self._scores[candidate])
        return best

    def _genome(self, candidate: int) -> Expression:
        """Return the expression under which the candidate was suggested; one of its names if it was not suggested."""
        suggested = self._genomes.get(candidate)
        return suggested or self._any_genome(candidate, np.random.default_rng([self._seed, candidate]))

    def _random(self, open_: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, Expression]:
        candidate = int(rng.choice(np.flatnonzero(open_)))
        return candidate, self._any_genome(candidate, rng)

    def _any_genome(self, candidate: int, rng: np.random.Generator) -> Expression:
        genomes = self._spellings.genomes[candidate]
        return genomes[rng.integers(len(genomes))]

    def _mutate(self, expression: Expression, rng: np.random.Generator) -> Expression:
        return mutated(expression, int(rng.integers(max(1, expression.n_operators))), self._spellings, rng)


def mutated(expression: Expression, node: int, spellings: Spellings, rng: np.random.Generator) -> Expression:
    """Return the expression with another operator of the same kind at one node, counted from the root in preorder.

    The expression is unchanged if the benchmark has no other operator of that kind.
    """
    if expression.operator is None:
        return expression
    if node == 0:
        kind = operator_named(expression.operator).kind
        others = [name for name in spellings.operators[kind] if name != expression.operator]
        return Expression(others[rng.integers(len(others))], expression.arguments) if others else expression
    node -= 1
    arguments = list(expression.arguments)
    for i, argument in enumerate(arguments):
        if node < argument.n_operators:
            arguments[i] = mutated(argument, node, spellings, rng)
            break
        node -= argument.n_operators
    return Expression(expression.operator, tuple(arguments))
