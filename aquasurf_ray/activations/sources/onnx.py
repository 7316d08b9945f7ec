"""A function as an ONNX model: float32 tensors of shape [batch, features], both sizes free, with doubles between them.

All computation in between is in double precision, so that the result is the float64 value, rounded once. PyTorch's
exporter translates operators that a user registered; these compute in float32. Learned parameters are float32
initializers, `learned_a` for a, with their initial values.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import Expression, parse, reads_x
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.registry import Operator, operator_named
from aquasurf_ray.activations.sources.onnx_operators import BINARY, FOLDED, UNARY, constant_like
from aquasurf_ray.activations.sources.onnx_registered import OPSET, exported_graph

INPUT, INPUT_AS_DOUBLE, OUTPUT = "x", "x64", "y"
_IR_VERSION = 8  # the IR version of this opset


def export_onnx(expression: Expression | str, path: Path) -> None:
    """Write the function's model, with the input "x" and the output "y".

    Raises:
        ActivationError: the ONNX packages are not installed, PyTorch's exporter cannot translate a registered operator,
            or the file cannot be written.
    """
    expression = parse(expression) if isinstance(expression, str) else expression
    data = onnx_model([expression]).SerializeToString()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ActivationError(f"model '{path}' cannot be written: {error.strerror or error}") from None


def onnx_model(expressions: Sequence[Expression]) -> Any:
    """Return the model of one function, or of several with the outputs "y", "y1", "y2" and so on.

    Raises:
        ActivationError: the ONNX packages are not installed, or PyTorch cannot translate a registered operator.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise ActivationError(f"ONNX needs: pip install onnx onnxscript ({error})") from None
    graph = _Graph()
    graph.add("Cast", (INPUT,), INPUT_AS_DOUBLE, to=TensorProto.DOUBLE)
    registers = {Expression(): INPUT_AS_DOUBLE}
    outputs = []
    for number, expression in enumerate(expressions):
        value = _of_full_shape(graph, expression.labelled(), registers)
        outputs.append(graph.add("Cast", (value,), f"{OUTPUT}{number or ''}", to=TensorProto.FLOAT))
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "features"]) for n in (INPUT, *outputs)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "activation", tensors[:1], tensors[1:], graph.constants),
        producer_name="aquasurf-ray",
        doc_string=str(expressions[0]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model)
    return model


class _Graph:
    """Writes a node for each call of an ONNX operator (`graph.Exp(x)`); values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self._constants: dict[float, Any] = {}
        self._others: list[Any] = []

    @property
    def constants(self) -> list[Any]:
        return [*self._constants.values(), *self._others]

    def __getattr__(self, operator: str) -> Any:
        return lambda *arguments, **attributes: self.add(operator, arguments, f"v{len(self.nodes)}", **attributes)

    def add(self, operator: str, arguments: Sequence[str | float], result: str, **attributes: Any) -> str:
        from onnx import helper

        names = [name if isinstance(name, str) else self._constant(name) for name in arguments]
        self.nodes.append(helper.make_node(operator, names, [result], **attributes))
        return result

    def parameter(self, learned: Learned) -> str:
        """Add a learned parameter as an initializer, float32 like trained weights, and return its value as a double.

        That of channels has one value for all features; a vector of as many values as features may take its place.
        """
        from onnx import TensorProto, helper

        shape = [1] if learned.per_channel else []
        name = f"learned_{learned.label}"
        taken = sum(other.name == name or other.name.startswith(f"{name}__") for other in self._others)
        name = f"{name}__{taken}" if taken else name  # another function of the same model has one of this name
        self._others.append(helper.make_tensor(name, TensorProto.FLOAT, shape, [learned.initial]))
        return str(self.Cast(name, to=TensorProto.DOUBLE))

    def insert(self, other: Any, arguments: Sequence[str]) -> str:
        """Copy the nodes and constants of a graph, applied to values of this one, and return its output."""
        prefix = f"g{len(self.nodes)}_"
        # ONNX leaves out an optional input by the empty name.
        names: dict[str, str] = {"": "", **dict(zip((value.name for value in other.input), arguments, strict=True))}
        for constant in other.initializer:
            self._others.append(type(constant).FromString(constant.SerializeToString()))
            self._others[-1].name = names[constant.name] = prefix + constant.name
        for node in other.node:
            names |= {name: prefix + name for name in node.output if name}
            copy = type(node).FromString(node.SerializeToString())
            copy.name = prefix + node.name
            copy.input[:] = [names[name] for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            self.nodes.append(copy)
        return names[other.output[0].name]

    def _constant(self, value: float) -> str:
        from onnx import TensorProto, helper

        if value not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[value] = helper.make_tensor(name, TensorProto.DOUBLE, [], [value])
        return str(self._constants[value].name)


def _written(graph: _Graph, expression: Expression, registers: dict[Expression, str]) -> str | float:
    """Return the name of the expression's value, or its number; repeated sub-expressions are computed once."""
    if expression.value is not None:
        return expression.value
    if expression not in registers and expression.learned is not None:
        registers[expression] = graph.parameter(expression.learned)
    elif expression not in registers:
        operator = operator_named(expression.operator or "")
        is_ours = operator.name in UNARY or operator.name in BINARY or operator.name in FOLDED
        write = _written if is_ours else _of_full_shape  # an operator of the user's own gets arguments of one shape
        arguments = [write(graph, argument, registers) for argument in expression.arguments]
        registers[expression] = _applied(graph, operator, arguments)
    return registers[expression]


def _of_full_shape(graph: _Graph, expression: Expression, registers: dict[Expression, str]) -> str:
    """Return the name of the expression's value in the shape of x."""
    value = _written(graph, expression, registers)
    if not isinstance(value, str):
        return str(constant_like(graph, INPUT_AS_DOUBLE, value))
    return value if reads_x(expression) else str(graph.Expand(value, graph.Shape(INPUT_AS_DOUBLE)))


def _applied(graph: _Graph, operator: Operator, arguments: list[str | float]) -> str:
    if operator.name in UNARY:
        return str(UNARY[operator.name](graph, *arguments))
    binary = BINARY.get(FOLDED.get(operator.name, operator.name))
    if binary is not None:
        return str(functools.reduce(functools.partial(binary, graph), arguments))
    from onnx import TensorProto

    values = [graph.Cast(argument, to=TensorProto.FLOAT) for argument in arguments]
    return str(graph.Cast(graph.insert(exported_graph(operator, len(values)), values), to=TensorProto.DOUBLE))
