"""An operator that a user registered, as an ONNX graph: PyTorch's exporter translates it, for float32.

Where the exporter's own translation of a PyTorch function loses digits, the graph of `onnx_operators.py` replaces it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.registry import Operator
from aquasurf_ray.activations.sources.onnx_operators import UNARY

OPSET = 18  # the oldest that the exporter writes; ONNX Runtime reads it since 2023


def exported_graph(operator: Operator, n_arguments: int) -> Any:
    """Return the graph that computes the operator for `n_arguments` inputs.

    Raises:
        ActivationError: the exporter cannot translate it, or onnxscript is not installed.
    """
    import torch

    class Applied(torch.nn.Module):
        def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
            return operator.function(*arguments)

    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("features")}
    examples = tuple(torch.linspace(-3.0, 3.0, 12).reshape(3, 4) + shift for shift in range(n_arguments))
    try:
        with _quietly():
            program = torch.onnx.export(
                Applied(),
                examples,
                dynamo=True,
                dynamic_shapes=((size,) * n_arguments,),
                opset_version=OPSET,
                custom_translation_table=_translations(),
                verbose=False,
            )
    except ImportError as error:
        raise ActivationError(f"ONNX of '{operator.name}' needs: pip install onnx onnxscript ({error})") from None
    except Exception as error:  # whatever the exporter raises about an operator that it cannot translate
        reason = str(error.__cause__ or error).strip().partition("\n")[0][:200]
        raise ActivationError(
            f"PyTorch's exporter cannot translate operator '{operator.name}' to ONNX: {reason}"
        ) from None
    # `insert` copies plain nodes only, so functions, and graphs inside of nodes (If, Loop, Scan), are refused.
    model = None if program is None else program.model_proto
    if model is None or model.functions or any(part.g.node for node in model.graph.node for part in node.attribute):
        raise ActivationError(f"operator '{operator.name}' has control flow, which is not written to ONNX here")
    return model.graph


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter, which warns about its own internals and prints the graphs that it cannot translate."""
    nowhere, disabled = io.StringIO(), logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _translations() -> dict[Any, Any]:
    """Return this package's translations in place of the exporter's that lose digits."""
    import torch

    names = {
        "sigmoid": "sigmoid",
        "silu": "swish",
        "log_sigmoid": "log_sigmoid",
        "expm1": "expm1",
        "erfc": "erfc",
        "mish": "mish",
    }
    return {getattr(torch.ops.aten, aten).default: _in_double(UNARY[name]) for aten, name in names.items()}


def _in_double(function: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    from onnx import TensorProto
    from onnxscript import opset18

    def translated(x: Any) -> Any:
        wide = opset18.Cast(x, to=TensorProto.DOUBLE)
        return opset18.Cast(function(_Doubles(), wide), to=TensorProto.FLOAT)

    return translated


class _Doubles:
    """onnxscript's operators, with Python numbers as doubles."""

    def __getattr__(self, operator: str) -> Any:
        from onnx import TensorProto, helper
        from onnxscript import opset18

        def written(*arguments: Any) -> Any:
            values = [
                opset18.Constant(value=helper.make_tensor("c", TensorProto.DOUBLE, [], [argument]))
                if isinstance(argument, float)
                else argument
                for argument in arguments
            ]
            return getattr(opset18, operator)(*values)

        return written
