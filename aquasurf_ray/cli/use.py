"""The command `use`: a function as standalone source."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.options import Function

app = Commands()


class Form(StrEnum):
    """The forms that a function can be exported in."""

    pytorch = "pytorch"
    compiled = "compiled"
    onnx = "onnx"
    jax = "jax"
    tensorflow = "tensorflow"


@app.command(epilog="Example: aquasurf use 'mul(erf(x),erfc(x))' > activation.py")
def use(
    function: Function,
    form: Annotated[
        Form, typer.Option(metavar="|".join(Form), help="Framework of the source; compiled is PyTorch, fused.")
    ] = Form.pytorch,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write; an existing one is replaced.")
    ] = None,
) -> None:
    """Export a function as standalone source with no dependency on this package.

    The source is a PyTorch module, or a function for JAX or TensorFlow. An ONNX model is written to the file given
    with -o: float32, input "x" of shape [batch, features], output "y".
    """
    from aquasurf_ray.activations import ActivationError
    from aquasurf_ray.analysis.output_file import check_place
    from aquasurf_ray.driver.errors import BadUse

    if output is not None:
        check_place(output)
    if output is None and form is Form.onnx:
        raise BadUse("form: an ONNX model is binary and cannot be printed; name a file with -o")
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
