"""Benchmarks that compare search algorithms without training, searches replayed on them, studies and reports of runs.

This room knows the expression language, the surrogate and the store's records, but neither Ray nor SQL. `__init__.pyi`
lists its names, each loaded from its file when first used. The path through it:

    store | file -> Benchmark -> make_policy, simulate -> Trace -> comparison
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
