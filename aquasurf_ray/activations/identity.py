"""The identity of functions: their values on one fixed sample, and the digest of these values.

The sample is 1,000 draws of N(0, 1), rounded to float32 so that float32 and float64 evaluate at the same points. It
is made from raw PCG64 output and the standard library's inverse normal distribution, both of which are fixed
algorithms, so it does not change with a version of NumPy or PyTorch.

The digested format, `outputs`: the values, with learned parameters at their initial values, clipped to [-5, 5], rounded
to float32, with one zero and one NaN.
Rule "float64" evaluates in float64, so that rounding twins such as add(a,b) and its rearrangements fall together;
rule "float32" evaluates in float32, as the paper's authors did, and counts about one function in ten twice; the exact
number depends on how the version of PyTorch rounds (431,193 four-node functions with 2.6, 426,102 with 2.15).

A function with learned parameters is more than its values at the initial ones: mul(learn(1),x) is not x. So its digest
also has, for each parameter, in no order, its kind, the derivatives by it and the values with it moved by 1/2, in the
same format. exp(learn(0)) and learn(1) have the same value and derivative, and only the move tells them apart. Two
functions that agree in all this, and differ only where two parameters move together, are taken for one.

The sample ends at 3.6. A function with a constant that acts beyond it only, such as min(relu(x),6), also has its values
on a tail in its digest, as float32 without clipping (`activations.hidden_constants`).

A function for each role of a network has the outputs of all of them, one after another in the order of the roles, and
the digest of the roles and their digests; where these are all the same, it is the one function.

Evaluation is bitwise repeatable on one machine with one PyTorch, alone or in a block: the sample is padded to 1,024
points, a multiple of every vector width, because PyTorch computes what is left over after the last full vector with
other code, which rounds otherwise. Between machines, the last bits of float64 may differ, and a fingerprint differs
where such a difference meets a rounding boundary of float32: measured once with PyTorch's scalar code in place of
its AVX-512 code, 120 of the 1,023,524 four-node names (0.012%; with AVX2, none). Rounding to fewer bits changes that
little (61 names with 17 of the 24 bits), because most of those are functions that amplify rounding errors. So compare
fingerprints from other machines only together with the names.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_ray.activations.expression import Expression, Program, number_in, program_of, run_program
from aquasurf_ray.activations.hidden_constants import TAIL, with_moved_constants
from aquasurf_ray.activations.registry import LEARNED, Elementwise, Operator
from aquasurf_ray.activations.roles import Function, RoleFunctions, function_of, joined, parse_function

Rule = Literal["float64", "float32"]

N_POINTS = 1000
PADDED_POINTS = 1024
BOUND = 5.0
MOVE = 0.5
DIGEST_BYTES = 16
_SEED = 20231210

_logger = logging.getLogger(__name__)


@cache
def sample() -> NDArray[np.float32]:
    """Return the 1,000 draws of N(0, 1) at which functions are compared: float32 of shape (1000,), read-only."""
    draws = _normal_draws(N_POINTS)
    draws.setflags(write=False)
    return draws


def outputs(expression: Function | str, rule: Rule = "float64") -> NDArray[np.float32]:
    """Return the function's values on the sample, with learned parameters at their initial values, clipped to [-5, 5]:
    float32 of shape (1000,); of a function for each of r roles, (1000 r,).

    NaN stays NaN. A function that fails on the sample, or does not give one real number a point (possible only with
    user-defined operators), is undefined: NaN everywhere, with the reason in the log.

    >>> outputs("relu(x)").min(), outputs("reciprocal(zero(x))").max()
    (np.float32(0.0), np.float32(5.0))
    """
    expression = parse_function(expression) if isinstance(expression, str) else expression
    if isinstance(expression, RoleFunctions):
        return np.concatenate([outputs(each, rule) for each in expression.of_role.values()])
    with exact_arithmetic():
        return rounded(padded_outputs(expression, rule)[None])[0].numpy()


def outputs_of_roles(function: Function | str, roles: Sequence[str]) -> NDArray[np.float32]:
    """Return the outputs of a network's function in each of its r roles, float32 of shape (1000 r,), so that functions
    with and without roles compare; those of the one function if the network has none.

    >>> outputs_of_roles("relu(x)", ("early", "late")).shape
    (2000,)
    """
    function = parse_function(function) if isinstance(function, str) else function
    if not roles:
        return outputs(function)
    return np.concatenate([outputs(function_of(function, role)) for role in sorted(roles)])


def padded_outputs(expression: Expression, rule: Rule = "float64") -> Tensor:
    """Return the values on the padded sample, shape (1024,), not rounded; NaN as in `outputs`."""
    x = padded_sample(rule)
    values = apply(expression.evaluate, x, name=str(expression))
    return undefined(x) if values is None else values


def responses(expression: Expression, rule: Rule = "float64") -> NDArray[np.float32]:
    """Return how the function responds to each of its p learned parameters: the derivatives by it, and the values with
    it moved by 1/2, on the sample, clipped to [-5, 5]: float32 of shape (p, 2, 1000). NaN as in `outputs`.

    >>> from aquasurf_ray.activations import parse
    >>> derivative, moved = responses(parse("mul(learn(1),x)"))[0]
    >>> bool((derivative == sample()).all()), bool((moved == (1.5 * sample()).clip(-5, 5)).all())
    (True, True)
    """
    steps, x = program_of(expression), padded_sample(rule)
    rows = []
    with exact_arithmetic():
        initial = [x.new_full(x.shape, number_in(x.dtype, each.initial)) for each in expression.parameters]
        rows += _derivatives(expression, steps, x, initial)
        for number, value in enumerate(initial):
            moved = [*initial[:number], value + MOVE, *initial[number + 1 :]]
            rows.append(_values_at(expression, steps, x, moved))
    n = len(initial)
    return rounded(torch.stack(rows)).numpy().reshape(2, n, N_POINTS).swapaxes(0, 1)


def is_constant(expression: Expression, rule: Rule = "float64") -> bool:
    """Return whether the outputs are one number on the whole sample, and stay so when a learned parameter moves."""
    lines = [outputs(expression, rule)[None], responses(expression, rule).reshape(-1, N_POINTS)]
    return all(bool((line == line[0]).all()) for line in np.concatenate(lines if expression.parameters else lines[:1]))


def _values_at(expression: Expression, steps: Program, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    values = apply(lambda x: run_program(steps, x, parameters), x, name=str(expression))
    return undefined(x) if values is None else values


def _derivatives(expression: Expression, steps: Program, x: Tensor, initial: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivative by each parameter at each point: every point has parameters of its own."""
    with torch.enable_grad():
        leaves = [value.clone().requires_grad_() for value in initial]
        total = _values_at(expression, steps, x, leaves).sum()
    if not total.requires_grad:
        return [torch.zeros_like(x) for _ in leaves]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(x) if gradient is None else gradient for gradient in found]


def fingerprint(expression: Function | str, rule: Rule = "float64") -> str:
    """Return the function's identity: 32 hexadecimal digits, equal for expressions that compute the same.

    >>> fingerprint("add(x,x)") == fingerprint("sub(x,negative(x))")
    True
    >>> fingerprint("mul(learn(1),x)") == fingerprint("mul(x,learn(1))") != fingerprint("x")
    True
    """
    expression = parse_function(expression) if isinstance(expression, str) else expression
    if isinstance(expression, RoleFunctions):
        return fingerprint_of_roles({role: fingerprint(each, rule) for role, each in expression.of_role.items()})
    return digest_of(expression, rule).hex()


def fingerprint_of_roles(fingerprints: Mapping[str, str]) -> str:
    """Return the identity of a function for each role from those of its functions."""
    if len(set(fingerprints.values())) == 1:
        return next(iter(fingerprints.values()))
    text = joined(dict(sorted(fingerprints.items())))
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def digest_of(expression: Expression, rule: Rule = "float64") -> bytes:
    """Return the fingerprint as 16 bytes."""
    with exact_arithmetic():
        values, *moved = (padded_outputs(each, rule) for each in (expression, *with_moved_constants(expression)))
    line, tail = rounded(values[None])[0].numpy(), hidden_tail(values, moved)
    if not expression.parameters:
        return digest(line, tail)
    return digest(line, b"".join(sorted(parameter_identities(expression, rule))) + tail)


def parameter_identities(expression: Expression, rule: Rule = "float64") -> list[bytes]:
    """Return what tells the learned parameters of a function apart, however it is spelled, in the order in which they
    are written: their kinds and responses."""
    kinds = [LEARNED[parameter.per_channel].encode() for parameter in expression.parameters]
    return [kind + _bytes(row) for kind, row in zip(kinds, responses(expression, rule), strict=True)]


def digest(values: NDArray[np.float32], more: bytes = b"") -> bytes:
    """Return BLAKE2b of one function's rounded outputs as little-endian float32, and of what else identifies it: 16
    bytes."""
    found = hashlib.blake2b(np.ascontiguousarray(values, dtype="<f4").data, digest_size=DIGEST_BYTES)
    found.update(more)
    return found.digest()


def hidden_tail(values: Tensor, moved: Sequence[Tensor]) -> bytes:
    """Return a function's values on the tail if one of its constants acts there only, else nothing.

    Args:
        values: on the padded sample, shape (1024,).
        moved: likewise, of the function with one of its constants moved, for each of them.
    """
    if not moved:  # most functions have no constants
        return b""
    line, tail = rounded(values[None]), _tail(values)
    for other in moved:
        if torch.equal(rounded(other[None]).nan_to_num(), line.nan_to_num()) and _tail(other) != tail:
            return tail
    return b""


def _tail(values: Tensor) -> bytes:
    tail = values[N_POINTS:].to(torch.float32, copy=True).add_(0.0)
    return _bytes(tail.masked_fill_(tail.isnan(), torch.nan).numpy())


def _bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


@cache
def padded_sample(rule: Rule) -> Tensor:
    """Return the sample and 24 points of a tail in the rule's precision, shape (1024,), which must not be changed."""
    if rule not in ("float64", "float32"):
        raise ValueError(f"rule must be 'float64' or 'float32', got {rule!r}")
    dtype = torch.float64 if rule == "float64" else torch.float32
    return torch.from_numpy(np.concatenate([sample(), TAIL])).to(dtype)


def rounded(values: Tensor) -> Tensor:
    """Return values of n functions, shape (n, 1024), in the digested format: float32 of shape (n, 1000)."""
    result = values[:, :N_POINTS].to(torch.float32, copy=True).contiguous()
    result.clamp_(-BOUND, BOUND).add_(0.0)  # the sum turns -0.0 into 0.0
    # Clipped values sum to NaN only if one of them is NaN. Every NaN gets the same bits, because digests compare bits.
    if result.sum().isnan():
        result.masked_fill_(result.isnan(), torch.nan)
    return result


def apply(function: Elementwise, *arguments: Tensor, name: str) -> Tensor | None:
    """Return the values of one function, or None if it fails or returns anything but one real number a point."""
    try:
        values = function(*arguments)
    except Exception as error:  # a user-defined operator may raise anything; that is a fact about the function
        _warn_once(f"{name} is undefined: it raised {type(error).__name__}: {error}")
        return None
    expected = arguments[0]
    if not isinstance(values, Tensor) or values.shape != expected.shape or values.is_complex():
        _warn_once(f"{name} is undefined: it gave {_described(values)}, not one real number a point")
        return None
    return values.to(expected.dtype)


def undefined(like: Tensor) -> Tensor:
    """Return the values of an undefined function: NaN everywhere."""
    return torch.full_like(like, torch.nan)


def operator_digest(entry: Operator) -> str:
    """Return a digest of one operator's values on the sample, which changes with its definition."""
    x = torch.from_numpy(_normal_draws(PADDED_POINTS)).double()
    n_arguments = {"unary": 1, "binary": 2, "nary": 3}[entry.kind]
    with exact_arithmetic():
        # Other values in each place, so that the order of the arguments counts.
        values = apply(entry.function, *(x.roll(shift) for shift in range(n_arguments)), name=entry.name)
        return digest(rounded((undefined(x) if values is None else values)[None])[0].numpy()).hex()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Turn off gradients and autocast, neither of which may affect a function's identity."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def _normal_draws(n: int) -> NDArray[np.float32]:
    # 53 random bits and half a step: never exactly 0 or 1, where the inverse distribution is infinite.
    uniform = ((np.random.PCG64(_SEED).random_raw(n) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    inverse = NormalDist().inv_cdf
    return np.array([inverse(u) for u in uniform.tolist()], dtype=np.float32)


@lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    _logger.warning(message)


def _described(values: object) -> str:
    if isinstance(values, Tensor):
        return f"a {str(values.dtype).removeprefix('torch.')} tensor of shape {tuple(values.shape)}"
    return type(values).__name__
