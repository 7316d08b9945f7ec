"""The command that gives a function away: use."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """What a function can be taken home as."""

    pytorch = "pytorch"
    compiled = "compiled"
    onnx = "onnx"
    jax = "jax"
    tensorflow = "tensorflow"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("use", epilog="Example: aquasurf use 'mul(erf(x),erfc(x))' > activation.py")(use)


def use(
    function: Annotated[str, typer.Argument(help="A function.")],
    form: Annotated[Form, typer.Option(help="pytorch, compiled (PyTorch's), onnx, jax or tensorflow.")] = Form.pytorch,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write; it is replaced as a whole.")
    ] = None,
) -> None:
    """Print a function as source that needs nothing of this package: a PyTorch module, or one for JAX or TensorFlow.

    An ONNX model is written to the file of -o: float32, input "x" of the shape [batch, features], output "y".
    """
    from aquasurf_ray.activations import ActivationError
    from aquasurf_ray.analysis.output_file import check_place
    from aquasurf_ray.driver.errors import BadUse

    if output is not None:
        check_place(output)
    if output is None and form is Form.onnx:
        raise BadUse("form: an ONNX model is no text; name its file with -o")
    try:
        _give(function, form, output)
    except ActivationError as error:
        raise BadUse(str(error)) from None
    if output is not None:
        print(f"{output} written")


def _give(function: str, form: Form, output: Path | None) -> None:
    from aquasurf_ray.activations.sources import LANGUAGES, export_onnx, source
    from aquasurf_ray.analysis.output_file import write_file

    if output is None:
        print(source(function, LANGUAGES[form.value]), end="")
    elif form is Form.onnx:
        export_onnx(function, output)
    else:
        write_file(output, source(function, LANGUAGES[form.value]).encode())
