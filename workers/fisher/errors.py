"""Exceptions and the warning of the spectrum.

SpectrumError            catch this to catch them all
  SpectrumInputError     the call cannot be served: bad targets, an empty batch, outputs of another kind
  NoLayers               the model has no layer with a Fisher block
  NonFiniteSpectrum      an activation or a gradient overflowed: the function's own fault, to be recorded
SkippedLayerWarning      layers without a gradient or of a kind without a block, by name
"""

from __future__ import annotations


class SpectrumError(Exception):
    """A Fisher spectrum cannot be computed."""


class SpectrumInputError(SpectrumError, ValueError):
    """The arguments do not describe a Fisher matrix."""


class NoLayers(SpectrumError, ValueError):
    """No Linear, Conv1d or Conv2d layer of the model gets a gradient."""


class NonFiniteSpectrum(SpectrumError, ArithmeticError):
    """NaN or infinity in the forward or backward pass.

    Attributes:
        where: the layer's name in the model, or `network` for its outputs.
        what: `input`, `output` or `gradient`.
    """

    def __init__(self, where: str, what: str) -> None:
        self.where = where
        self.what = what
        super().__init__(where, what)

    def __str__(self) -> str:
        return f"{self.what} of '{self.where}' is not finite: the network overflows with this function"


class SkippedLayerWarning(UserWarning):
    """Layers that get no gradient, or of a kind that has no Fisher block, are left out of the spectrum."""
