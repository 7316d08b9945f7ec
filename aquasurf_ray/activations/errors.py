"""The exceptions of the room `activations`: what a caller can do about them decides the class.

ActivationError (ValueError)
├── ExpressionError   the text is not an expression: correct it at `.position`
├── OperatorError     an operator is not known, or may not be registered like this
└── SpaceError        a search space is not well formed, or too large
"""

from __future__ import annotations


class ActivationError(ValueError):
    """Anything that this room refuses."""


class ExpressionError(ActivationError):
    """A text is not an expression of the language; `position` is the 1-based column where it stops being one."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position

    def __reduce__(self) -> tuple[type[ExpressionError], tuple[str, int]]:
        """Keep the position across processes."""
        return type(self), (str(self), self.position)


class OperatorError(ActivationError):
    """An operator is not known, or its registration is refused."""


class SpaceError(ActivationError):
    """A search space is not known, not well formed, or larger than this machine should enumerate."""
