"""Tasks: networks, the data that they are trained on, their objectives and their recipes.

`__init__.pyi` lists the names, each loaded from its file when first used, so that all tasks can be listed without
PyTorch, and a task of the user's own needs neither timm nor torchvision.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
