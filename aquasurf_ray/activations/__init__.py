"""The expression language of activation functions: operators, expressions, modules, identity and search spaces.

Knows no other room. The way of a function through it:

    text -> parse -> Expression -> Activation (to train) | fingerprint (its identity) | latex, words (for people)
    SearchSpace -> unique_functions -> FunctionTable (what a search chooses from)
"""

from aquasurf_ray.activations.enumeration import unique_functions
from aquasurf_ray.activations.errors import ActivationError, ExpressionError, OperatorError, SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.identity import fingerprint, outputs, sample
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.registry import all_operators, register_binary, register_nary, register_unary, unregister
from aquasurf_ray.activations.rendering import latex, words
from aquasurf_ray.activations.space import BASELINES, SPACES, SearchSpace
from aquasurf_ray.activations.table import FunctionTable

__all__ = [
    "BASELINES",
    "SPACES",
    "Activation",
    "ActivationError",
    "Expression",
    "ExpressionError",
    "FunctionTable",
    "OperatorError",
    "SearchSpace",
    "SpaceError",
    "all_operators",
    "fingerprint",
    "latex",
    "outputs",
    "parse",
    "register_binary",
    "register_nary",
    "register_unary",
    "sample",
    "unique_functions",
    "unregister",
    "words",
]
