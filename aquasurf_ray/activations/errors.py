"""The exceptions of the room `activations`, split by what a caller can do about them.

ActivationError (ValueError)
├── ExpressionError   the text is not an expression: correct it at `.position`
├── OperatorError     an operator is unknown, or its registration is refused
└── SpaceError        a search space is unknown, not well formed or too large
"""

from __future__ import annotations


class ActivationError(ValueError):
    """The base class of this room's errors."""


class ExpressionError(ActivationError):
    """A text is not an expression of the language; `position` is the 1-based column of the first error."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position

    def __reduce__(self) -> tuple[type[ExpressionError], tuple[str, int]]:
        """Keep the position across processes."""
        return type(self), (str(self), self.position)


class OperatorError(ActivationError):
    """An operator is unknown, or its registration is refused."""


class SpaceError(ActivationError):
    """A search space is unknown, not well formed, or larger than this machine should enumerate."""
