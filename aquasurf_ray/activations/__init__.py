"""The expression language of activation functions: operators, expressions, modules, identity and search spaces.

Imports no other room. The path of a function through it:

    text -> parse -> Expression -> Activation (to train) | fingerprint (its identity) | latex, words (for people)
    Expression -> fast_factory -> Activation | RecomputedActivation | CompiledActivation (to train fast)
    SearchSpace -> unique_functions -> FunctionTable (what a search chooses from)
"""

from aquasurf_ray.activations.errors import ActivationError, ExpressionError, OperatorError, SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.forms.choice import FastForm, fast_factory, form_factory, lean_factory
from aquasurf_ray.activations.forms.compiled import CompiledActivation
from aquasurf_ray.activations.forms.recomputed import RecomputedActivation
from aquasurf_ray.activations.identity import fingerprint, outputs, sample
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.registry import all_operators, register_binary, register_nary, register_unary, unregister
from aquasurf_ray.activations.rendering import latex, words
from aquasurf_ray.activations.spaces.enumeration import unique_functions
from aquasurf_ray.activations.spaces.space import SPACES, SearchSpace
from aquasurf_ray.activations.spaces.table import FunctionTable
from aquasurf_ray.baselines import BASELINES, REFERENCE

__all__ = [
    "BASELINES",
    "REFERENCE",
    "SPACES",
    "Activation",
    "ActivationError",
    "CompiledActivation",
    "Expression",
    "ExpressionError",
    "FastForm",
    "FunctionTable",
    "OperatorError",
    "RecomputedActivation",
    "SearchSpace",
    "SpaceError",
    "all_operators",
    "fast_factory",
    "fingerprint",
    "form_factory",
    "latex",
    "lean_factory",
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
