"""A found function under a name that the configurations of transformers accept, as in `LlamaConfig(hidden_act="mine")`.

Models look their function up in a table of transformers when they are made. A saved model holds the name alone, so a
process that loads it must register the function first.
"""

from __future__ import annotations

import re
from typing import Any

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.replacement.transformers_models import transformers

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # T5 splits its setting at hyphens: gated-NAME


def register_hidden_act(name: str, function: str) -> None:
    """Make a function known to transformers in this process, for every setting that takes `gelu` or `silu`.

    Args:
        name: the value for the configuration's `hidden_act`, which GPT-2 calls `activation_function`.
        function: an expression, such as `"mul(sigmoid(x),elu(x))"`.

    Raises:
        TaskError: the name is not an identifier, or names another function already; transformers is not installed.
        ExpressionError: the function is not an expression.
    """
    from aquasurf_ray.activations import Activation

    transformers()
    from transformers.activations import ACT2CLS, ACT2FN

    if not _NAME.fullmatch(name):
        raise TaskError(f"hidden_act must be letters, digits and underscores, got {name!r}")
    entry = (Activation, {"expression": Activation(function).name})
    known: Any = ACT2CLS.get(name, entry)
    if known != entry:
        is_ours = isinstance(known, tuple) and known[0] is Activation
        what = known[1]["expression"] if is_ours else "a function of transformers"
        raise TaskError(f"hidden_act '{name}' is {what} already; choose another name")
    ACT2CLS[name] = entry
    ACT2FN[name] = entry
