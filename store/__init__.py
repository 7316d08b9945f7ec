"""The store: the only room that speaks SQL. Tasks, functions, runs, evaluations, spectra, costs and events, on SQLite
or PostgreSQL.

`Store.open(url)` is the door; what goes through it are the frozen dataclasses of `store.records`, and what can go
wrong is the family of `store.errors`. `__init__.pyi` lists the public names, each loaded from its file when first used,
so that a command that only reads imports neither NumPy nor the files of benchmarks. Names that start with an
underscore, and the other modules, are private.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
