"""The choice of the form of a function to train with on this machine: eager, recomputed or compiled, by measurement.

Forms are timed in turns, forward and backward, on as many elements as an activation of the network gets, and compared
with the eager form (`aquasurf_ray.activations.forms.agreement`). Nothing is measured for trainings whose activations
take less than `WORTH_MEASURING` seconds, and nothing is compiled unless the time that it could save is twice the
compile time, so that short trainings start at once. Measurements are stored on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.forms import form_costs
from aquasurf_ray.activations.forms.agreement import disagreement
from aquasurf_ray.activations.forms.compiled import CompiledActivation
from aquasurf_ray.activations.forms.form_costs import FormCosts
from aquasurf_ray.activations.forms.kernels import ROW
from aquasurf_ray.activations.forms.recomputed import RecomputedActivation
from aquasurf_ray.activations.forms.stopwatch import kept_bytes, side_by_side
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.role_factories import RoleActivations, factory_of
from aquasurf_ray.activations.roles import Function, RoleFunctions, parse_function, parts_of

FormName = Literal["eager", "recomputed", "compiled"]
Preference = Literal["speed", "memory"]

FORMS: dict[FormName, type[Activation]] = {
    "eager": Activation,
    "recomputed": RecomputedActivation,
    "compiled": CompiledActivation,
}
SPEED_MARGIN = 1.05
"""The recomputed form is chosen for speed too if it takes at most this multiple of the eager form's time: it keeps less
memory, and a network spends only a part of its time in activations."""
WORTH_MEASURING = 5.0
COMPILE_SECONDS = 30.0
"""The compile time of two kernels; measured on a loaded machine: 6 to 60."""
LOAD_SECONDS = 5.0
"""The load time of two kernels from disk, including the import of the compiler."""
MEASURED_ELEMENTS = 2**22
"""Above this size, times grow in proportion."""
LEAN = 1.01
"""Up to this number of elements kept for each element of the input, the eager form keeps no more than the others."""
ROUNDS = 5
CALLS_A_ROUND_ON_A_GPU = 10
"""The calls between two readings of the clock, because a GPU computes while the next call is prepared."""


@dataclass(frozen=True)
class FastForm:
    """The form to use: `factory` returns a new activation module at each call and can be pickled; `note` gives the
    reason."""

    name: str
    factory: Callable[[], nn.Module]
    note: str = ""


def form_factory(function: str | Function, name: str) -> Callable[[], nn.Module]:
    """Return the factory of a form by name, for a training that resumes in the form that it started in.

    With a function for each role, the name is that of a form for all, or has one for each role.

    Raises:
        ValueError: no form has this name.

    >>> form_factory("relu(x)", "recomputed")()
    RecomputedActivation(relu(x))
    >>> form_factory("early=relu(x);late=swish(x)", "early=eager;late=recomputed").for_role("late")()
    RecomputedActivation(swish(x))
    """
    function = parse_function(function) if isinstance(function, str) else function
    names = parts_of(name)
    if isinstance(function, RoleFunctions) and names:
        if tuple(names) != function.roles:
            raise ValueError(f"forms {name!r} must have the roles of {function}")
        return RoleActivations(function, partial(_in_form, {function.of_role[r]: _form_named(names[r]) for r in names}))
    return factory_of(function, _form_named(name))


def _form_named(name: str) -> type[Activation]:
    for known, form in FORMS.items():
        if name == known:
            return form
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {name!r}")


def _in_form(forms: Mapping[Expression, type[Activation]], expression: Expression) -> Activation:
    return forms[expression](expression)


def lean_factory(function: str | Function) -> Callable[[], nn.Module]:
    """Return the factory of the form that keeps least for the backward pass, bit for bit equal to the eager form.

    A single operator or kernel is eager: ReLU keeps its output, which the next layer keeps too, and others keep their
    input. Other functions are recomputed.

    >>> lean_factory("relu(x)")(), lean_factory("relu6")(), lean_factory("mul(x,relu(x))")()
    (Activation(relu(x)), Activation(min(relu(x),6)), RecomputedActivation(mul(x,relu(x))))
    """
    return factory_of(parse_function(function) if isinstance(function, str) else function, _lean)


def _lean(expression: Expression) -> Activation:
    eager = Activation(expression)
    return eager if eager.is_one_call else RecomputedActivation(expression)


def fast_factory(
    expression: str | Expression,
    *,
    device: torch.device | str,
    n_elements: int,
    expected_calls: int,
    prefer: Preference = "speed",
    dtype: torch.dtype = torch.float32,
    folder: Path | None = None,
) -> FastForm:
    """Return the fastest form of a function on this machine, among those that agree with the eager form.

    For a training under autocast, call it under the same autocast, with the type of the activations' inputs.

    Args:
        expression: an `Expression`, or its text.
        device: the device of the network.
        n_elements: the typical number of elements of an activation's input: the mean over the network's activations.
        expected_calls: the number of forward and backward passes of single activations in the whole training.
        prefer: "memory" chooses the fastest of the forms that keep least; with "speed", the recomputed form must not
            take more than 1.05 times the eager form's time.
        dtype: the type of the activations' inputs.
        folder: the folder of the measurements; by default `$AQUASURF_CACHE` if it is set, else `~/.cache/aquasurf-ray`.

    Raises:
        ExpressionError: the text is not an expression.
        ValueError: a number is below 1, or the preference is unknown.
        torch.OutOfMemoryError, and any error of the function itself.
    """
    expression = expression if isinstance(expression, Expression) else parse(expression)
    device = torch.device(device)
    if n_elements < 1 or expected_calls < 1:
        raise ValueError(f"n_elements and expected_calls must be at least 1, got {n_elements} and {expected_calls}")
    if prefer not in ("speed", "memory"):
        raise ValueError(f"prefer must be 'speed' or 'memory', got {prefer!r}")
    size = _measured_size(n_elements)
    # The training's passes, as a number of calls of the measured size.
    total = expected_calls * n_elements / size
    path = form_costs.path_for(expression, device=device, dtype=dtype, n_elements=size, folder=folder)
    costs = form_costs.read(path)
    if costs is None:
        if prefer == "speed":
            seconds = _quick_seconds(expression, device, dtype, size) * total
            if seconds < WORTH_MEASURING:
                return _form(expression, "eager", f"{seconds:.1f} s in activations are not worth measuring")
        costs = _measure(expression, device, dtype, size)
        form_costs.write(path, costs)
    if _is_worth_compiling(expression, costs, total):
        tried = _try_compiled(expression, device, dtype, costs)
        if tried != costs:
            costs = tried
            form_costs.write(path, costs)
    name = _choice(costs, prefer, total)
    return _form(expression, name, _note(costs, name))


def _form(expression: Expression, name: FormName, note: str) -> FastForm:
    return FastForm(name, form_factory(expression, name), f"{name}: {note}")


# --- choosing -------------------------------------------------------------------------------------------------------


def _choice(costs: FormCosts, prefer: Preference, total: float) -> FormName:
    """Return the form for `total` calls of the measured size."""
    name: FormName = "eager"
    seconds = costs.eager
    if costs.recomputed is not None and (prefer == "memory" or costs.recomputed <= SPEED_MARGIN * costs.eager):
        name, seconds = "recomputed", costs.recomputed
    if costs.compiled is not None and total * (seconds - costs.compiled) > LOAD_SECONDS:
        name = "compiled"
    return name


def _is_worth_compiling(expression: Expression, costs: FormCosts, total: float) -> bool:
    if Activation(expression).is_one_call or costs.compiled is not None or "compiled" in costs.refused:
        return False
    # Swish is a single kernel of PyTorch's own, so its time is the best that a compiled function can hope for.
    now = min(costs.eager, costs.eager if costs.recomputed is None else costs.recomputed)
    return total * (now - costs.swish) > 2 * COMPILE_SECONDS


def _note(costs: FormCosts, name: FormName) -> str:
    known = {"eager": costs.eager, "recomputed": costs.recomputed, "compiled": costs.compiled}
    times = [f"{form} {seconds * 1e3:.3g} ms" for form, seconds in known.items() if seconds is not None]
    reasons = [f"{form} refused ({reason})" for form, reason in costs.refused.items()]
    return f"{costs.n_elements:,} elements forward and backward take {', '.join([*times, *reasons])}"


# --- measuring ------------------------------------------------------------------------------------------------------


def _measured_size(n_elements: int) -> int:
    """Return the number of elements to measure with: at most 2^22, in whole rows, and at least the two that kernels
    need."""
    return max(2 * ROW, min(n_elements, MEASURED_ELEMENTS) // ROW * ROW)


def _example(device: torch.device, dtype: torch.dtype, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n // ROW, ROW, generator=generator).to(device, dtype).requires_grad_()


def _quick_seconds(expression: Expression, device: torch.device, dtype: torch.dtype, n: int) -> float:
    """Return the eager form's seconds a call from two calls, the first of which is left out."""
    return _seconds({"eager": Activation(expression)}, _example(device, dtype, n), rounds=1)["eager"]


def _measure(expression: Expression, device: torch.device, dtype: torch.dtype, n: int) -> FormCosts:
    x = _example(device, dtype, n)
    eager, recomputed = Activation(expression), RecomputedActivation(expression)
    keeps = kept_bytes(lambda: eager(x)) / (x.element_size() * n)
    forms: dict[str, nn.Module] = {"eager": eager, "swish": Activation("swish(x)")}
    refused = {}
    if keeps > LEAN:
        reason = disagreement(recomputed, eager, device=device, dtype=dtype)
        if reason:
            refused["recomputed"] = reason
        else:
            forms["recomputed"] = recomputed
    times = _seconds(forms, x)
    return FormCosts(n, times["eager"], times["swish"], times.get("recomputed"), None, refused, keeps)


def _try_compiled(expression: Expression, device: torch.device, dtype: torch.dtype, costs: FormCosts) -> FormCosts:
    """Return the costs with those of the compiled form, timed with the others; unchanged where nothing is compiled."""
    x, form = _example(device, dtype, costs.n_elements), CompiledActivation(expression)
    if form.kernels_for(x.detach()) is None:
        return costs
    eager = Activation(expression)
    reason = disagreement(form, eager, device=device, dtype=dtype)
    if reason:
        return replace(costs, refused=costs.refused | {"compiled": reason})
    others = {"eager": eager, "recomputed": RecomputedActivation(expression)}
    forms = {name: other for name, other in others.items() if getattr(costs, name) is not None}
    times = _seconds({**forms, "compiled": form}, x)
    return replace(costs, eager=times["eager"], recomputed=times.get("recomputed"), compiled=times["compiled"])


def _seconds(forms: dict[str, nn.Module], x: Tensor, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds of a forward and backward pass of each form."""
    passes = [partial(_forward_and_backward, form, x, torch.ones_like(form(x))) for form in forms.values()]
    # One-time costs, such as the first allocation or loading a kernel, are not part of a call.
    for once in passes:
        once()
    calls = CALLS_A_ROUND_ON_A_GPU if x.device.type == "cuda" else 1
    times = side_by_side(passes, x.device, min_rounds=rounds, max_rounds=rounds, calls=calls)
    return {name: time.median for name, time in zip(forms, times, strict=True)}


def _forward_and_backward(form: nn.Module, x: Tensor, gradient: Tensor) -> None:
    result = form(x)
    torch.autograd.grad(result, [x, *form.parameters()], gradient, allow_unused=True)
