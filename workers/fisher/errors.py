"""Exceptions and warnings of the spectrum.

SpectrumError            catch this to catch them all
  SpectrumInputError     the call cannot be served: bad targets, an empty batch, outputs of another kind
  NoLayers               no weight of the model has a Fisher block
  NonFiniteSpectrum      an activation or a gradient overflowed: the function's own fault, to be recorded
AssumedClassesWarning    neither loss nor targets tell which dimension of the outputs holds the classes
SkippedLayerWarning      weights without a block, or with uses that their block does not count, by name
UncertainRowsWarning     nothing tells whether some rows of a block belong to targets that count, by name
"""

from __future__ import annotations


class SpectrumError(Exception):
    """A Fisher spectrum cannot be computed."""


class SpectrumInputError(SpectrumError, ValueError):
    """The arguments do not describe a Fisher matrix."""


class NoLayers(SpectrumError, ValueError):
    """No weight of the model has a Fisher block with a gradient."""


class AssumedClassesWarning(UserWarning):
    """Classes are taken to be in dimension 1 of the outputs, and might be in the last."""


class NonFiniteSpectrum(SpectrumError, ArithmeticError):
    """NaN or infinity in the forward or backward pass.

    Attributes:
        where: the block's name, or `network` for its outputs.
        what: `input`, `output` or `gradient`.
    """

    def __init__(self, where: str, what: str) -> None:
        self.where = where
        self.what = what
        super().__init__(where, what)

    def __str__(self) -> str:
        return f"{self.what} of '{self.where}' is not finite: the network overflows with this function"


class SkippedLayerWarning(UserWarning):
    """Weights are left out of the spectrum, or have uses that their block does not count."""


class UncertainRowsWarning(UserWarning):
    """A block counts rows of which neither gradients nor shapes tell whether they belong to targets that count."""
