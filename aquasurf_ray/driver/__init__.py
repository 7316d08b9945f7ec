"""The search: plan, dispatch, record. `__init__.pyi` lists the names, each loaded from its file when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
