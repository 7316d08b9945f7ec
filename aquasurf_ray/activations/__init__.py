"""The expression language of activation functions: operators, expressions, modules, identity and search spaces.

Imports no other room. The path of a function through it:

    text -> parse -> Expression -> Activation (to train) | fingerprint (its identity) | latex, words (for people)
    Expression -> fast_factory -> Activation | RecomputedActivation | CompiledActivation (to train fast)
    SearchSpace -> unique_functions -> FunctionTable (what a search chooses from)

`__init__.pyi` lists the names, each loaded from its file when first used, so that a function can be read and printed
without PyTorch.
"""

import lazy_loader

# Fills the registry, which every file of this folder reads.
import aquasurf_ray.activations.operators  # noqa: F401

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
