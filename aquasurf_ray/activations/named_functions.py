"""Published activation functions by name, each an expression of the language: the table of the zoo.

A name is written like an operator: `hardswish(x)`, `mul(0.5,hardswish(x))`. Constants other than the published ones
come after the argument, `leaky_relu(x,0.1)`, in the order of `NamedFunction.constants`. An argument that is left out
is x: `hardswish`, `leaky_relu(0.1)`. The parser replaces a name by its expression, so stores and spaces only ever see
operators; networks and PyTorch sources find a function's `kernel` by its expression (`formulas.py`). A name that is
also an operator of the language (`elu`) is that operator; with constants it is the zoo's expression (`elu(x,0.5)`).

Expressions are the published formulas, but where a formula would lose its value or its gradient in float32: there the
expression is an equal one that does not. `x - min(x, 0)` is ReLU with half of the slope at 0, the other half of which
`min(x, 0)` has, so that a function that is smooth at 0 has its slope there. `docs/zoo.md` has the table, and what has
no name here with the reason.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import le

from aquasurf_ray.activations.errors import ExpressionError


def _all(*_: float) -> bool:
    return True


@dataclass(frozen=True)
class NamedFunction:
    """One published function.

    Attributes:
        formula: as published, for people, with the published constants.
        template: the expression, with `{0}`, `{1}`, ... in the place of constants.
        source: where the function comes from, an arXiv number, an author and year, or a library.
        constants: the published values of the constants, and the initial values of learned parameters.
        aliases: other names of the same function.
        kernel: the function of PyTorch's that computes it by one kernel where the expression takes several, by its name
            in `operator_functions.py`, called with the argument and the constants; "" if there is none.
        kernel_takes: whether the kernel takes these constants, and computes the expression's values with them.
    """

    name: str
    formula: str
    template: str
    source: str
    constants: tuple[float, ...] = ()
    aliases: tuple[str, ...] = ()
    kernel: str = ""
    kernel_takes: Callable[..., bool] = _all

    def text(self, constants: Sequence[str] = (), position: int = 1, taken: Collection[str] = ()) -> str:
        """Return the expression's text, with these constants in place of the first published ones.

        Learned parameters are the function's own: their labels are none of those that are `taken`. A constant that is a
        learned parameter is one parameter, wherever the formula has it.

        Raises:
            ExpressionError: there are more constants than the function has, or one is learned already.

        >>> named_function("leaky_relu").text(["0.1"])
        'add(relu(x),mul(0.1,min(x,0)))'
        >>> named_function("celu").text(["learn(2)"])
        'add(sub(x,min(x,0)),mul(learn(2,a),expm1(div(min(x,0),learn(2,a)))))'
        """
        if len(constants) > len(self.constants):
            takes = f"at most {len(self.constants)} constants" if self.constants else "no constants"
            raise ExpressionError(
                f"function {self.name!r} at {position} takes an argument and {takes}, got {len(constants)}", position
            )
        own = dict.fromkeys(label for _, label in _LABELLED.findall(self.template))
        free = free_labels({*taken, *own})
        renamed = {label: next(free) if label in taken else label for label in own}
        template = _LABELLED.sub(lambda found: f"{found[1]},{renamed[found[2]]})", self.template)
        given = []
        for number, constant in enumerate(constants):
            place = f"{{{number}}}"
            if constant.startswith("learn") and any(place in learned for learned in _LEARNED.findall(template)):
                raise ExpressionError(
                    f"function {self.name!r} at {position} learns its constant {number + 1} already, got {constant}; "
                    "give the initial value, a number",
                    position,
                )
            is_one = constant.startswith("learn") and template.count(place) > 1 and "," not in constant
            given.append(f"{constant[:-1]},{next(free)})" if is_one else constant)
        return template.format(*given, *map(repr, self.constants[len(given) :]))


_LEARNED = re.compile(r"learn(?:_channel)?\([^()]*\)")
_LABELLED = re.compile(r"(learn(?:_channel)?\([^(),]*),(\w+)\)")


def free_labels(taken: Collection[str]) -> Iterator[str]:
    """Return labels of learned parameters that are not taken: a, b, c, ... without x, and then a1, b1, ..."""
    labels = (f"{chr(ord('a') + i % 26)}{i // 26 or ''}" for i in itertools.count())
    return (label for label in labels if label not in taken and label != "x")


ZOO: tuple[NamedFunction, ...] = (
    NamedFunction("relu", "max(0, x)", "relu(x)", "Nair and Hinton 2010"),
    NamedFunction(
        "leaky_relu",
        "max(0, x) + s min(0, x), s = 0.01",
        "add(relu(x),mul({0},min(x,0)))",
        "Maas et al. 2013",
        (0.01,),
        kernel="functional.leaky_relu",
    ),
    NamedFunction("relu6", "min(max(0, x), 6)", "min(relu(x),6)", "Krizhevsky 2010", kernel="functional.relu6"),
    NamedFunction(
        "hardtanh",
        "min(max(x, a), b), a = -1, b = 1",
        "min(max(x,{0}),{1})",
        "Collobert 2004",
        (-1.0, 1.0),
        kernel="functional.hardtanh",
        kernel_takes=le,
    ),
    NamedFunction("relu_squared", "max(0, x)²", "square(relu(x))", "2109.08668", aliases=("relu2", "squared_relu")),
    NamedFunction(
        "leaky_relu_squared",
        "(max(0, x) + s min(0, x))², s = 0.5",
        "square(add(relu(x),mul({0},min(x,0))))",
        "after 2109.08668",
        (0.5,),
        ("leaky_relu2",),
    ),
    NamedFunction(
        "elu",
        "max(0, x) + a (exp(min(0, x)) - 1), a = 1",
        "add(sub(x,min(x,0)),mul({0},expm1(min(x,0))))",
        "1511.07289",
        (1.0,),
        kernel="functional.elu",
    ),
    NamedFunction(
        "celu",
        "max(0, x) + a (exp(min(0, x) / a) - 1), a = 1",
        "add(sub(x,min(x,0)),mul({0},expm1(div(min(x,0),{0}))))",
        "1704.07483",
        (1.0,),
        kernel="functional.celu",
        kernel_takes=lambda a: a > 0,
    ),
    NamedFunction("selu", "1.0507 (max(0, x) + 1.6733 (exp(min(0, x)) - 1))", "selu(x)", "1706.02515"),
    NamedFunction("sigmoid", "σ(x) = 1 / (1 + exp(-x))", "sigmoid(x)", "Cybenko 1989", aliases=("logistic",)),
    NamedFunction("tanh", "tanh(x)", "tanh(x)", "LeCun et al. 1998"),
    NamedFunction("softplus", "ln(1 + exp(x))", "softplus(x)", "Dugas et al. 2000"),
    NamedFunction(
        "shifted_softplus",
        "ln(1 + exp(x)) - ln 2",
        "sub(softplus(x),0.6931471805599453)",
        "1706.08566",
        aliases=("ssp",),
    ),
    NamedFunction("softsign", "x / (1 + |x|)", "softsign(x)", "Bergstra et al. 2009"),
    NamedFunction("log_sigmoid", "ln σ(x)", "log_sigmoid(x)", "PyTorch", aliases=("logsigmoid",)),
    # PyTorch has no second derivative of its kernel of this one; the relu6 in it is a kernel.
    NamedFunction("hardsigmoid", "min(max(0, x + 3), 6) / 6", "div(min(relu(add(x,3)),6),6)", "1905.02244"),
    NamedFunction(
        "hardswish",
        "x min(max(0, x + 3), 6) / 6",
        "mul(x,div(min(relu(add(x,3)),6),6))",
        "1905.02244",
        aliases=("hard_swish", "hard_silu"),
        kernel="functional.hardswish",
    ),
    NamedFunction(
        "hardmish", "x min(max(0, x + 2), 2) / 2", "mul(x,div(min(relu(add(x,2)),2),2))", "timm", aliases=("hard_mish",)
    ),
    NamedFunction(
        "swish",
        "x σ(b x), b = 1",
        "mul(x,sigmoid(mul({0},x)))",
        "1606.08415, 1702.03118, 1710.05941",
        (1.0,),
        ("silu",),
    ),
    NamedFunction("gelu", "x Φ(x)", "gelu(x)", "1606.08415"),
    NamedFunction(
        "quick_gelu", "x σ(1.702 x)", "mul(x,sigmoid(mul(1.702,x)))", "1606.08415", aliases=("gelu_sigmoid",)
    ),
    NamedFunction(
        "gelu_tanh",
        "x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2",
        # 1 + tanh(u) is 2 σ(2u), and 1 + tanh(u) loses all digits for u below -9
        "mul(x,sigmoid(mul(1.5957691216057308,mul(x,add(1,mul(0.044715,square(x)))))))",
        "1606.08415",
        aliases=("tanh_gelu", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"),
        kernel="gelu_tanh",
    ),
    NamedFunction("mish", "x tanh(ln(1 + exp(x)))", "mish(x)", "1908.08681"),
    NamedFunction(
        "telu",
        "x tanh(exp(x))",
        # tanh(exp(4)) is 1 in float64; without a bound, the gradient is 0 times infinity from 89 on in float32
        "mul(x,tanh(exp(min(x,4))))",
        "2412.20269",
    ),
    NamedFunction("lisht", "x tanh(x)", "mul(x,tanh(x))", "1901.05894"),
    NamedFunction("logish", "x ln(1 + σ(x))", "mul(x,softplus(log_sigmoid(x)))", "Zhu et al. 2021"),
    NamedFunction("smish", "x tanh(ln(1 + σ(x)))", "mul(x,tanh(softplus(log_sigmoid(x))))", "Wang et al. 2022"),
    NamedFunction("serf", "x erf(ln(1 + exp(x)))", "mul(x,erf(softplus(x)))", "2108.09598"),
    NamedFunction("phish", "x tanh(gelu(x))", "mul(x,tanh(gelu(x)))", "Naveen 2022"),
    NamedFunction("elish", "(max(0, x) + exp(min(0, x)) - 1) σ(x)", "elish(x)", "1808.00783"),
    NamedFunction("tanhshrink", "x - tanh(x)", "sub(x,tanh(x))", "PyTorch"),
    NamedFunction(
        "softshrink",
        "x - min(max(x, -s), s), s = 0.5",
        "sub(x,min(max(x,mul(-1,{0})),{0}))",
        "PyTorch",
        (0.5,),
        kernel="functional.softshrink",
        kernel_takes=lambda s: s >= 0,
    ),
    NamedFunction(
        "squareplus", "(x + √(x² + b)) / 2, b = 4", "mul(0.5,add(x,sqrt(add(square(x),{0}))))", "2112.11687", (4.0,)
    ),
    NamedFunction(
        "bent_identity", "(√(x² + 1) - 1) / 2 + x", "add(x,mul(0.5,sub(sqrt(add(square(x),1)),1)))", "folklore"
    ),
    NamedFunction("isru", "x / √(1 + a x²), a = 1", "div(x,sqrt(add(1,mul({0},square(x)))))", "1710.09967", (1.0,)),
    NamedFunction(
        "laplace",
        "(1 + erf((x - 0.707107) / (0.282095 √2))) / 2",
        # 1 + erf(u) is erfc(-u), which keeps its digits where u is far below 0
        "mul(0.5,erfc(div(sub(0.707107,x),mul(0.282095,1.4142135623730951))))",
        "2209.10655",
    ),
    NamedFunction("gaussian", "exp(-x² / 2)", "exp(mul(-0.5,square(x)))", "2111.15135"),
    NamedFunction("sin", "sin(x)", "sin(x)", "2006.09661", aliases=("sine",)),
    NamedFunction("siren", "sin(w x), w = 30", "sin(mul({0},x))", "2006.09661", (30.0,)),
    NamedFunction("sinc", "sin(x) / x", "sinc(x)", "2402.05427"),
    NamedFunction("gcu", "x cos(x)", "mul(x,cos(x))", "2108.12943"),
    NamedFunction("gelu_sinc", "gelu(x) (1 + sinc(x) / 2)", "mul(gelu(x),add(1,mul(0.5,sinc(x))))", "2602.05688"),
    NamedFunction(
        "grafs",
        "0.40 gelu(0.44 x² + 0.56 gelu(x)) + 0.60 x σ(x)",
        "add(mul(0.4,gelu(add(mul(0.44,square(x)),mul(0.56,gelu(x))))),mul(0.6,swish(x)))",
        "2408.06820",
    ),
    NamedFunction(
        "prelu",
        "max(0, x) + a min(0, x), a = 0.25 learned per channel",
        "add(relu(x),mul(learn_channel({0}),min(x,0)))",
        "1502.01852",
        (0.25,),
    ),
    NamedFunction(
        "star_relu",
        "a max(0, x)² + b, a = 0.8944, b = -0.4472 learned",
        "add(mul(learn({0}),square(relu(x))),learn({1}))",
        "2210.13452",
        (0.8944, -0.4472),
    ),
    NamedFunction("swish_beta", "x σ(b x), b = 1 learned", "mul(x,sigmoid(mul(learn({0}),x)))", "1710.05941", (1.0,)),
    NamedFunction(
        "snake",
        "x + sin²(a x) / a, a = 1 learned",
        "add(x,div(square(sin(mul(learn({0},a),x))),learn({0},a)))",
        "2006.08195",
        (1.0,),
    ),
    NamedFunction(
        "acon_c",
        "(p - q) x σ(b (p - q) x) + q x, p = 1, q = 0, b = 1 learned per channel",
        "add(mul(mul(sub(learn_channel({0},p),learn_channel({1},q)),x),sigmoid(mul(learn_channel({2},b),"
        "mul(sub(learn_channel({0},p),learn_channel({1},q)),x)))),mul(learn_channel({1},q),x))",
        "2009.04759",
        (1.0, 0.0, 1.0),
    ),
    NamedFunction(
        "xielu",
        "p max(0, x)² + n (exp(m) - 1 - m) + x / 2, m = min(0, x), p = softplus(a), n = 1/2 + softplus(b), learned",
        "add(add(mul(softplus(learn({0})),square(relu(x))),"
        "mul(add(0.5,softplus(learn({1}))),sub(expm1(min(x,0)),min(x,0)))),mul(0.5,x))",
        "2411.13010",
        (0.2033823208110246, -1.0502256128148468),  # p and n begin with 0.8
    ),
    NamedFunction(
        "poly_relu",
        "a + b r + c r² + d r³, r = max(0, x), a = 0, b = c = d = 1/3 learned",
        "add(learn({0}),mul(relu(x),add(learn({1}),mul(relu(x),add(learn({2}),mul(learn({3}),relu(x)))))))",
        "2411.03884",
        (0.0, 1 / 3, 1 / 3, 1 / 3),
    ),
    NamedFunction("dyt", "tanh(a x), a = 0.5 learned", "tanh(mul(learn({0}),x))", "2503.10622", (0.5,)),
    NamedFunction(
        "derf",
        "erf(a x + s), a = 0.5, s = 0 learned",
        "erf(add(mul(learn({0}),x),learn({1})))",
        "2512.10938",
        (0.5, 0.0),
    ),
    NamedFunction(
        "pau",
        "(a0 + a1 x + ... + a5 x⁵) / (1 + |b1 x + ... + b4 x⁴|), all learned",
        "div(add(learn({0}),mul(x,add(learn({1}),mul(x,add(learn({2}),mul(x,add(learn({3}),mul(x,add(learn({4}),"
        "mul(learn({5}),x)))))))))),add(1,abs(mul(x,add(learn({6}),mul(x,add(learn({7}),mul(x,add(learn({8}),"
        "mul(learn({9}),x))))))))))",
        "1907.06732",
        # least squares fit to leaky_relu on [-3, 3], as in the paper; it differs by at most 0.034 there
        (0.0336, 0.505, 1.6514, 2.0046, 0.928, 0.1515, 0.0, 3.9693, 0.0, 0.3001),
        ("rational",),
    ),
)

_BY_NAME = {name: function for function in ZOO for name in (function.name, *function.aliases)}


def named_function(name: str) -> NamedFunction | None:
    """Return the function with this name or alias, or None."""
    return _BY_NAME.get(name)


def all_names() -> tuple[str, ...]:
    """Return all names and aliases."""
    return tuple(_BY_NAME)
