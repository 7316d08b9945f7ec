"""An expression as a PyTorch module, which a network uses as its activation function.

The module has no parameters, and no state but the text of the expression, which is all that pickling and `torch.save`
store of the function. It works under torch.compile (fullgraph), autocast, every float type and on any device.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aquasurf_ray.activations.expression import Expression, parse, program_of, run_program


class Activation(nn.Module):
    """An activation function, elementwise on tensors of any shape.

    Args:
        expression: an `Expression`, or its text.
        inplace: accepted because networks pass it to their activations, but ignored, because composed functions need
            their input again in the backward pass.

    Raises:
        ExpressionError: if the text is not an expression.

    >>> import torch
    >>> Activation("mul(sigmoid(x), elu(x))")
    Activation(mul(sigmoid(x),elu(x)))
    >>> Activation("relu(x)")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, expression: str | Expression, *, inplace: bool = False) -> None:
        super().__init__()
        self.expression = expression if isinstance(expression, Expression) else parse(expression)
        self._program = program_of(self.expression)

    @property
    def name(self) -> str:
        """The canonical spelling of the expression."""
        return str(self.expression)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`, of the same shape."""
        return run_program(self._program, x)

    def extra_repr(self) -> str:
        """Return the expression, which `print(network)` shows."""
        return self.name

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the functions, which are looked up again where the module is unpickled."""
        return {key: value for key, value in self.__dict__.items() if key != "_program"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._program = program_of(self.expression)
