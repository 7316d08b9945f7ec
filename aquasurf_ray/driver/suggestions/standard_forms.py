"""New functions of the open space in their standard form (`activations.standardization`), each once up to scale."""

from __future__ import annotations

from collections.abc import Sequence

from aquasurf_ray.activations import ActivationError, Expression, parse_function
from aquasurf_ray.activations.standardization import scale_free_digest, standardized


class StandardForms:
    """The functions that a run has in their standard form, and those of new functions that it does not have.

    A function that somebody asked for as it is does not stand for its standard form, and neither does a baseline.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._n_read = 0

    def read(self, candidates: Sequence[str]) -> None:
        """Note the standard forms among a run's candidates, of which more are added at the end."""
        for name in candidates[self._n_read :]:
            try:
                expression = parse_function(name)
            except ActivationError:  # an operator that is not registered here, which only a person can have used
                continue
            if isinstance(expression, Expression) and standardized(expression) == expression:
                self._known.add(scale_free_digest(expression))
        self._n_read = len(candidates)

    def of(self, expressions: Sequence[Expression]) -> dict[int, Expression]:
        """Return the standard forms of new functions by their positions, the shortest of those that agree up to scale.

        Each is made from the core of its expression, so that constants around a function do not give another candidate.
        Left out are functions without a standard form, and those that the run has.
        """
        found: dict[str, tuple[int, Expression]] = {}
        for i, expression in enumerate(expressions):
            form = standardized(expression)
            if form is None:
                continue
            twin = scale_free_digest(form)
            shorter = twin not in found or _size(form) < _size(found[twin][1])
            if twin not in self._known and shorter:
                found[twin] = i, form
        return dict(sorted(found.values()))

    def add(self, expressions: Sequence[Expression]) -> None:
        """Note standard forms that become candidates."""
        self._known.update(map(scale_free_digest, expressions))


def _size(expression: Expression) -> tuple[int, int]:
    return expression.n_operators, len(expression.text)
