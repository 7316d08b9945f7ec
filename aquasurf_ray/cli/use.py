"""The command `use`: a function as standalone source."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.shared_parameters import Function, ReaderModules, StoreOption

if TYPE_CHECKING:
    from aquasurf_ray.activations import Expression, RoleFunctions
    from aquasurf_ray.store import LearnedValues

app = Commands()


class Form(StrEnum):
    """The forms that a function can be exported in."""

    pytorch = "pytorch"
    compiled = "compiled"
    onnx = "onnx"
    jax = "jax"
    tensorflow = "tensorflow"
    expression = "expression"


@app.command(epilog="Example: aquasurf use 'mul(erf(x),erfc(x))' > activation.py")
def use(
    function: Function,
    form: Annotated[
        Form, typer.Option(metavar="|".join(Form), help="Framework of the source; compiled is PyTorch, fused.")
    ] = Form.pytorch,
    learned: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Use the values of the learned parameters at the end of this run."),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="mean|LAYER",
            help="With --learned: make the parameters constants: their means over all layers, or their values in one.",
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="The role whose function is exported. Default: each role of the function."),
    ] = None,
    modules: ReaderModules = None,
    store: StoreOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write; an existing one is replaced.")
    ] = None,
) -> None:
    """Export a function as standalone source with no dependency on this package.

    The source is a PyTorch module, or a function for JAX or TensorFlow. An ONNX model is written to the file given
    with -o: float32, input "x" of shape [batch, features], output "y".

    With --learned, learned parameters begin with the mean of what the layers of a trained network learned; with
    --freeze they become constants, and --form expression prints the function, to be trained as a candidate of its own.

    A function per role, such as 'early=relu(x);late=swish(x)', is exported role by role: with -o activation.py, to
    activation_early.py and activation_late.py. With --learned, each role has the mean over its own layers.
    """
    from aquasurf_ray.activations import ActivationError, RoleFunctions, function_of, parse_function
    from aquasurf_ray.analysis.output_file import check_place
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.driver.operator_origin import origins_told
    from aquasurf_ray.driver.user_modules import import_modules

    if output is not None:
        check_place(output)
    if output is None and form is Form.onnx:
        raise BadUse("form: an ONNX model is binary and cannot be printed; name a file with -o")
    if freeze is not None and learned is None:
        raise BadUse(f"freeze: {freeze!r} needs --learned RUN, which has the values")
    import_modules(modules or ())
    try:
        with origins_told([function], store):
            parse_function(function)
        if learned is not None:
            function = _learned_function(function, role, learned, freeze, store)
        read = parse_function(function)
        if role is not None:
            function = str(function_of(read, role))
        elif isinstance(read, RoleFunctions) and form is not Form.expression:
            _give_each(read, form, output)
            return
        _give(function, form, output)
    except ActivationError as error:
        raise BadUse(str(error)) from None
    if output is not None:
        print(f"{output} written")


def _give_each(functions: RoleFunctions, form: Form, output: Path | None) -> None:
    """Give the function of each role, in a file of its own if there are files."""
    from aquasurf_ray.analysis.output_file import check_place

    if output is None:
        for role, expression in functions.of_role.items():
            print(f"# role {role}")
            _give(str(expression), form, None)
        return
    places = {role: output.with_stem(f"{output.stem}_{role}") for role in functions.roles}
    for place in places.values():
        check_place(place)
    for role, place in places.items():
        _give(str(functions.of_role[role]), form, place)
        print(f"{place} written")


def _give(function: str, form: Form, output: Path | None) -> None:
    from aquasurf_ray.activations import parse_function
    from aquasurf_ray.activations.sources import LANGUAGES, export_onnx, source
    from aquasurf_ray.analysis.output_file import write_file

    if form is Form.expression:
        text = f"{parse_function(function)}\n"
        if output is None:
            print(text, end="")
        else:
            write_file(output, text.encode())
    elif output is None:
        print(source(function, LANGUAGES[form.value]), end="")
    elif form is Form.onnx:
        export_onnx(function, output)
    else:
        write_file(output, source(function, LANGUAGES[form.value]).encode())


def _learned_function(function: str, role: str | None, run: str, freeze: str | None, store: str | None) -> str:
    """Return the function, or that of a role, with the values that it learned in a run: the mean over its trainings
    there, at the learning rate that was best for it."""
    from aquasurf_ray.activations import RoleFunctions, fingerprint, function_of, parse_function, same_or_by_role
    from aquasurf_ray.driver.errors import BadUse

    digest = fingerprint(function)
    with open_store(store) as opened:
        record = opened.run(run)
        found = opened.learned_in(record.id, digest)
        if not found:
            raise BadUse(f"run '{run}' has no training of {function} that learned parameters; see: aquasurf top {run}")
        # The spelling whose parameters have values.
        read = parse_function(opened.function_history(digest).function.name)
        places = opened.task(record.task_id).places_of_roles
    if role is not None and role not in places:
        known = f"the roles {', '.join(places)}" if places else "no roles"
        raise BadUse(f"unknown role '{role}'; the network of run '{run}' has {known}")
    if role is None and not isinstance(read, RoleFunctions):
        return str(_with_values(read, found, freeze))
    if role is None and freeze not in (None, "mean"):
        raise BadUse(f"freeze: {freeze!r} is a layer of one role; name the role with --role")
    functions = {each: function_of(read, each) for each in ((role,) if role is not None else places)}
    if not any(each.parameters for each in functions.values()):
        raise BadUse(f"role '{role}' of {read} has no learned parameters; leave out --learned")
    return str(
        same_or_by_role(
            {
                each: _with_values(expression, [values for values in found if values.layer in places[each]], freeze)
                for each, expression in functions.items()
            }
        )
    )


def _with_values(expression: Expression, found: Sequence[LearnedValues], freeze: str | None) -> Expression:
    """Return a function with the mean of each parameter over layers and trainings, or over those of one layer."""
    from aquasurf_ray.activations.learned import frozen, warm_started
    from aquasurf_ray.driver.errors import BadUse

    if not expression.parameters:
        return expression
    layers = list(dict.fromkeys(each.layer for each in found))
    if freeze not in (None, "mean", *layers):
        raise BadUse(f"freeze: {freeze!r} must be mean or one of the layers {', '.join(layers)}")
    chosen = [each for each in found if freeze in (None, "mean", each.layer) and each.mean is not None]
    names = dict.fromkeys(each.parameter for each in chosen)
    values = {name: fmean(each.mean or 0.0 for each in chosen if each.parameter == name) for name in names}
    return warm_started(expression, values) if freeze is None else frozen(expression, values)
