"""A function as an ONNX model, exported by PyTorch: float32 tensors of shape [batch, features], both sizes free."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.module import Activation

NAMES = ("x", "y")
_WITHOUT = ("bessel_i0e", "bessel_i1e")


def export_onnx(expression: Expression | str, path: Path) -> None:
    """Writes the function's model, with the input "x" and the output "y".

    Raises:
        ActivationError: the ONNX packages are not installed, an operator has no counterpart in ONNX, or the file cannot
            be written.
    """
    expression = parse(expression) if isinstance(expression, str) else expression
    lacking = [name for name in _WITHOUT if f"{name}(" in str(expression)]
    if lacking:
        raise ActivationError(f"ONNX has no counterpart of '{lacking[0]}'; take the PyTorch, JAX or TensorFlow source")
    size = torch.export.Dim("batch"), torch.export.Dim("features")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, about its own parts
            program = torch.onnx.export(
                Activation(expression).eval(),
                (torch.linspace(-3.0, 3.0, 12).reshape(3, 4),),
                dynamo=True,
                dynamic_shapes=({0: size[0], 1: size[1]},),
                input_names=[NAMES[0]],
                output_names=[NAMES[1]],
                custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid},
                verbose=False,
            )
            if program is None:
                raise ActivationError(f"PyTorch has exported nothing for '{expression}'")
            program.save(str(path))
    except ImportError as error:
        raise ActivationError(f"ONNX needs: pip install 'aquasurf-ray[onnx]' ({error})") from None
    except OSError as error:
        raise ActivationError(f"model '{path}' cannot be written: {error.strerror or error}") from None


def _log_sigmoid(x: Any) -> Any:
    """The exporter's own takes the logarithm of a sigmoid, which runtimes round to 0 from -18 on."""
    from onnxscript import opset18

    return opset18.Neg(opset18.Softplus(opset18.Neg(x)))
