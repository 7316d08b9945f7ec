"""The report of a run: one HTML page, or single pictures for papers; and the live pages of `aquasurf watch`.

store -> read_findings -> Findings -> KINDS: a Chart each -> plotly_chart -> page, or matplotlib_chart -> a file

`__init__.pyi` lists the names, each loaded from its file when first used: the server of `watch` answers before PyTorch,
which the pictures need, is loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
