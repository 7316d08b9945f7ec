"""A check that a form of an activation function agrees with the eager form in values and gradients.

The 8,192 points are dense where networks work and sparse up to the range of float32, with both zeros, both infinities
and NaN. Two forms agree if NaN and infinities are in the same places and every other value is within `TOLERANCES` of
the eager form's, absolutely or relatively; or if it is no further from the float64 value than the eager form's plus
that tolerance, because a compiled kernel that rounds half precision only once is better than eager, not wrong. Where
the input is NaN, the value must be NaN too, and the gradient has no effect and is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from aquasurf_ray.activations.module import PREFIX, Activation

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Four dimensions, which channels_last needs, and a number of elements that the compiled kernels take.
SHAPE = (4, 16, 8, 16)


def disagreement(form: nn.Module, eager: Activation, *, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return where `form` differs from `eager`, in a few words; None if it does not."""
    if isinstance(form, Activation) and eager.learned:  # sized for other inputs than the points, perhaps
        form, eager = type(form)(form.expression), Activation(eager.expression)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = points(device, dtype).contiguous(memory_format=memory_format)
        found = _disagreement(form, eager, x) or _disagreement_of_parameters(form, eager, x)
        if found:
            return found
    return None


def _disagreement_of_parameters(form: nn.Module, eager: Activation, x: Tensor) -> str | None:
    """Return which learned parameter's gradient differs, at points of moderate size only: it is a sum over all points,
    and the bound is what rounding makes of a sum of so many terms."""
    if not eager.learned:
        return None
    points = torch.linspace(-3.0, 3.0, x.numel(), dtype=torch.float64, device=x.device).reshape(x.shape)
    points = points.to(x.dtype).contiguous(memory_format=_format_of(x))
    theirs = _gradients_by_parameters(form, points, eager.learned)
    exact = _gradients_by_parameters(eager, points.double(), eager.learned)
    for name, got, reference in zip(eager.learned, theirs, exact, strict=True):
        allowed = TOLERANCES[x.dtype] * x.numel() ** 0.5 * reference.abs().clamp(min=1.0)
        wrong = (got - reference).abs() > allowed
        if wrong.any():
            at = int(wrong.flatten().int().argmax())
            numbers = (t.flatten()[at].item() for t in (got, reference))
            return "gradients by {} differ: {:g}, not {:g}".format(name.removeprefix(PREFIX), *numbers)
    return None


def _format_of(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def _gradients_by_parameters(form: nn.Module, x: Tensor, names: Iterable[str]) -> list[Tensor]:
    y = form(x)
    parameters = [getattr(form, name) for name in names]
    # Of one sign, because weights that are odd would cancel the even derivatives that many functions have.
    weights = torch.linspace(0.0, 1.0, y.numel(), dtype=torch.float64, device=y.device).to(y.dtype).reshape(y.shape)
    return [gradient.double() for gradient in torch.autograd.grad(y, parameters, weights)]


def points(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the points at which forms are compared, shape (4, 16, 8, 16)."""
    dense = torch.linspace(-12.0, 12.0, 6000, dtype=torch.float64)
    scales = torch.logspace(-30.0, 30.0, 1000, dtype=torch.float64)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan], dtype=torch.float64)
    known = torch.cat([dense, scales, -scales, special])
    n_left = torch.Size(SHAPE).numel() - len(known)
    return torch.cat([known, torch.linspace(-3.0, 3.0, n_left, dtype=torch.float64)]).to(device, dtype).reshape(SHAPE)


def _disagreement(form: nn.Module, eager: Activation, x: Tensor) -> str | None:
    theirs, expected = _values_and_gradient(form, x), _values_and_gradient(eager, x)
    exact = _values_and_gradient(eager, x.double())
    for what, got, wanted, reference in zip(("values", "gradients"), theirs, expected, exact, strict=True):
        if got.dtype != wanted.dtype or got.shape != wanted.shape:
            return f"{what} are {got.dtype} of shape {tuple(got.shape)}, not {wanted.dtype} {tuple(wanted.shape)}"
        wrong = ~_is_equal(got.double(), wanted.double(), reference.double(), TOLERANCES[x.dtype])
        if what == "gradients":
            wrong &= ~x.isnan()
        if wrong.any():
            at = int(wrong.flatten().int().argmax())
            numbers = (t.flatten()[at].item() for t in (x, got, wanted))
            return "{} differ at {:g}: {:g}, not {:g}".format(what, *numbers)
    return None


def _values_and_gradient(form: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = form(x)
    # Of one sign, because weights that are odd would cancel the even derivatives that many functions have.
    weights = torch.linspace(0.0, 1.0, y.numel(), dtype=torch.float64, device=y.device).to(y.dtype).reshape(y.shape)
    return y.detach(), torch.autograd.grad(y, x, weights)[0]


def _is_equal(got: Tensor, wanted: Tensor, exact: Tensor, tolerance: float) -> Tensor:
    allowed = tolerance * wanted.abs().clamp(min=1.0)
    allowed_from_exact = (wanted - exact).abs() + tolerance * exact.abs().clamp(min=1.0)
    is_close = ((got - wanted).abs() <= allowed) | ((got - exact).abs() <= allowed_from_exact)
    return (got == wanted) | (got.isnan() & wanted.isnan()) | (got.isfinite() & wanted.isfinite() & is_close)
