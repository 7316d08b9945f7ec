"""The table of built-in operators: name, PyTorch function, LaTeX and plain words, one line each.

A function is given by its name in `operator_functions.py` (`torch.tanh`, `functional.elu`, or one defined there) and is
looked up when it is first evaluated, so that text can be read and printed without loading PyTorch.

The names and meanings are those of the paper (Bingham and Miikkulainen 2023, arXiv 2301.05785) and its authors' later
additions. Spaces enumerate their names in the order of the table, so new lines go to the end of their group.
"""

from __future__ import annotations

from aquasurf_ray.activations.registry import Level, Operator, Symmetry, add_built_in, all_operators

VALUES_VERSION = 1
"""The version of the values, for identities and caches: increment it if a built-in operator changes."""


def _unary(
    name: str,
    function: str,
    latex: str | None = None,
    words: str | None = None,
    level: Level = Level.ATOM,
    argument: Level = Level.ANY,
) -> None:
    latex = rf"\operatorname{{{name}}}\left(#1\right)" if latex is None else latex
    words = f"{name} of #1" if words is None else words
    add_built_in(Operator(name, "unary", function, latex, words, level, (argument,), built_in=True))


def _binary(
    name: str,
    function: str,
    latex: str,
    words: str,
    level: Level = Level.ATOM,
    arguments: tuple[Level, Level] = (Level.ANY, Level.ANY),
    symmetry: Symmetry = Symmetry.NONE,
) -> None:
    add_built_in(Operator(name, "binary", function, latex, words, level, arguments, symmetry=symmetry, built_in=True))


def _nary(
    name: str,
    function: str,
    latex: str,
    words: str,
    joiner: str,
    symmetry: Symmetry,
    level: Level = Level.ATOM,
    arguments: tuple[Level, ...] = (Level.ANY,),
) -> None:
    add_built_in(Operator(name, "nary", function, latex, words, level, arguments, joiner, symmetry, built_in=True))


_unary("zero", "zero", r"0\left(#1\right)")
_unary("one", "one", r"1\left(#1\right)")
_unary("identity", "identity", r"\operatorname{id}\left(#1\right)")
_unary("negative", "torch.neg", "-#1", "negative of #1", Level.SUM, Level.PRODUCT)
_unary("abs", "torch.abs", r"\left|#1\right|", "absolute value of #1")
_unary("reciprocal", "torch.reciprocal", r"\frac{1}{#1}", level=Level.PRODUCT)
_unary("square", "torch.square", "#1^{2}", level=Level.POWER, argument=Level.ATOM)
_unary("exp", "torch.exp", "e^{#1}", "exponential of #1", level=Level.POWER)
_unary("erf", "torch.erf", words="error function of #1")
_unary("erfc", "torch.erfc", words="complementary error function of #1")
_unary("sinh", "torch.sinh", r"\sinh\left(#1\right)", "hyperbolic sine of #1")
_unary("cosh", "torch.cosh", r"\cosh\left(#1\right)", "hyperbolic cosine of #1")
_unary("tanh", "torch.tanh", r"\tanh\left(#1\right)", "hyperbolic tangent of #1")
_unary("expm1", "torch.expm1", r"\left(e^{#1} - 1\right)", "exponential minus one of #1")
_unary("sigmoid", "torch.sigmoid", r"\sigma\left(#1\right)")
_unary("log_sigmoid", "log_sigmoid", r"\log\sigma\left(#1\right)", "logarithm of the sigmoid of #1")
_unary("arcsinh", "torch.asinh", words="inverse hyperbolic sine of #1")
_unary("arctan", "torch.atan", r"\arctan\left(#1\right)", "arc tangent of #1")
_unary("bessel_i0e", "bessel_i0e", r"I_{0e}\left(#1\right)", "scaled Bessel function I0 of #1")
_unary("bessel_i1e", "bessel_i1e", r"I_{1e}\left(#1\right)", "scaled Bessel function I1 of #1")
_unary("relu", "functional.relu", r"\operatorname{ReLU}\left(#1\right)")
_unary("elu", "functional.elu", r"\operatorname{ELU}\left(#1\right)")
_unary("selu", "functional.selu", r"\operatorname{SELU}\left(#1\right)")
_unary("swish", "functional.silu", r"\operatorname{Swish}\left(#1\right)")
_unary("softplus", "softplus", r"\operatorname{Softplus}\left(#1\right)")
_unary("softsign", "functional.softsign", r"\operatorname{Softsign}\left(#1\right)")
_unary("hard_sigmoid", "hard_sigmoid", r"\operatorname{HardSigmoid}\left(#1\right)", "hard sigmoid of #1")
_unary("elish", "elish", r"\operatorname{ELiSH}\left(#1\right)")
_unary("leakyrelu", "leakyrelu", r"\operatorname{LeakyReLU}\left(#1\right)", "leaky relu of #1")
_unary("mish", "functional.mish", r"\operatorname{Mish}\left(#1\right)")
_unary("gelu", "functional.gelu", r"\operatorname{GELU}\left(#1\right)")
_unary("sin", "torch.sin", r"\sin\left(#1\right)", "sine of #1")
_unary("cos", "torch.cos", r"\cos\left(#1\right)", "cosine of #1")
_unary("sinc", "sinc", r"\operatorname{sinc}\left(#1\right)", "sin(u)/u at #1")
# NaN below 0: a function that leaves the square root's domain diverges, instead of silently being another one.
_unary("sqrt", "torch.sqrt", r"\sqrt{#1}", "square root of #1")

_TERMS = (Level.SUM, Level.PRODUCT)
_FACTORS = (Level.PRODUCT, Level.PRODUCT)
_binary("add", "torch.add", "#1 + #2", "#1, plus #2", Level.SUM, _TERMS, Symmetry.ALL)
_binary("sub", "torch.sub", "#1 - #2", "#1, minus #2", Level.SUM, _TERMS)
_binary("mul", "torch.mul", r"#1 \cdot #2", "#1, times #2", Level.PRODUCT, _FACTORS, Symmetry.ALL)
_binary("div", "torch.div", r"\frac{#1}{#2}", "#1, divided by #2", Level.PRODUCT)
_binary("pow", "torch.pow", "#1^{#2}", "#1, to the power of #2", Level.POWER, (Level.ATOM, Level.ANY))
_binary("max", "torch.maximum", r"\max\left(#1, #2\right)", "the larger of #1 and #2", symmetry=Symmetry.ALL)
_binary("min", "torch.minimum", r"\min\left(#1, #2\right)", "the smaller of #1 and #2", symmetry=Symmetry.ALL)

_nary("sum_n", "torch.add", "#*", "the sum of #*", " + ", Symmetry.FIRST_TWO, Level.SUM, _TERMS)
_nary("prod_n", "torch.mul", "#*", "the product of #*", r" \cdot ", Symmetry.FIRST_TWO, Level.PRODUCT, _FACTORS)
_nary("max_n", "torch.maximum", r"\max\left(#*\right)", "the largest of #*", ", ", Symmetry.ALL)
_nary("min_n", "torch.minimum", r"\min\left(#*\right)", "the smallest of #*", ", ", Symmetry.ALL)

EVERY_UNARY = tuple(entry.name for entry in all_operators("unary"))
ALL_UNARY = EVERY_UNARY[: EVERY_UNARY.index("gelu") + 1]
"""The operators of the built-in spaces, whose names, counts and fingerprints never change."""
PAPER_UNARY = ALL_UNARY[: ALL_UNARY.index("hard_sigmoid") + 1]
BINARY = tuple(entry.name for entry in all_operators("binary"))
NARY = tuple(entry.name for entry in all_operators("nary"))
