"""The form of the function that a training uses where fast forms are wanted: the one that `fast_factory` measures to be
the fastest.

A resumed training uses the form that it began with. A deterministic recipe gets the recomputed form, which has the bits
of the eager one and needs less memory.
"""

from __future__ import annotations

import logging

from aquasurf_ray.activations import FastForm, fast_factory
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
    expression = request.activation.expression
    form = fast_factory(
        expression,
        device=request.device,
        n_elements=request.n_elements,
        expected_calls=request.expected_calls,
        dtype=request.dtype,
    )
    logger.info("%s: %s form, %s", expression, form.name, form.note)
    return form
