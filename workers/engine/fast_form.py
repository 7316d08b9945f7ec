"""The form of the function that a training uses where fast forms are wanted: the one that `fast_factory` measures to be
the fastest.

A resumed training uses the form that it began with. A deterministic recipe gets the recomputed form, which has the bits
of the eager one and needs less memory.
"""

from __future__ import annotations

import logging

from aquasurf_ray.activations import Expression, FastForm, RoleFunctions, fast_factory
from aquasurf_ray.activations.roles import joined
from aquasurf_ray.workers.engine.form import FormRequest, named_form

DETERMINISTIC = "recomputed"

logger = logging.getLogger(__name__)


def fast_form(request: FormRequest) -> FastForm:
    """Return the form for a training, as `workers.training.train` asks for it.

    Raises:
        ValueError: the training began with a form that does not exist here.
    """
    name = request.kept or (DETERMINISTIC if request.deterministic else None)
    if name is not None:
        return named_form(request.activation, name)
    function = request.activation.expression
    if not isinstance(function, RoleFunctions):
        return _fastest(request, function, request.expected_calls)
    # Calls are counted over all roles; each is taken to have its share, which only decides what is worth compiling.
    calls = max(1, request.expected_calls // len(function.roles))
    names = {role: _fastest(request, each, calls).name for role, each in function.of_role.items()}
    return named_form(request.activation, joined(names))


def _fastest(request: FormRequest, expression: Expression, calls: int) -> FastForm:
    form = fast_factory(
        expression, device=request.device, n_elements=request.n_elements, expected_calls=calls, dtype=request.dtype
    )
    logger.info("%s: %s form, %s", expression, form.name, form.note)
    return form
