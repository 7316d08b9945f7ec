"""Three runs on one Ray with real workers: a search among hostile functions, one function that becomes NaN late in a
long training, and one that never ends.

python hostile_search.py
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from aquasurf_ray.driver import evaluate, search
from aquasurf_ray.driver.callbacks.progress import Lines
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.tasks import load_task

MODULES = {"modules": ["hostile_operators"]}
AT_ONCE = (
    "raising", "nan_at_once", "constant_output", "complex_output", "integer_output", "infinite_gradient", "exhausting",
    "killed",
)  # fmt: skip
SPACE = "name: hostile\nnames:\n" + "".join(f"  - {name}(x)\n" for name in AT_ONCE)


def long_digits():
    """1,200 steps of digits."""
    digits = load_task("digits")
    return replace(digits, name="long-digits", recipe=replace(digits.recipe, epochs=80))


if __name__ == "__main__":
    Path("space.yaml").write_text(SPACE + "modules: [hostile_operators]\n")
    callbacks = [Lines()]
    with connected(None):
        search("digits", name="hostile", space="space.yaml", candidates=len(AT_ONCE), evaluations=len(AT_ONCE),
               workers=2, max_attempts=2, callbacks=callbacks, **MODULES)  # fmt: skip
        evaluate(
            ["late_nan(x)"],
            long_digits(),
            name="late",
            workers=1,
            fast_activations="off",
            callbacks=callbacks,
            **MODULES,
        )
        with contextlib.suppress(RunFailed):  # says that one of the two failed
            evaluate(["forever(x)", "relu(tanh(x))"], "digits", name="endless", workers=1, time_limit=20.0,
                     max_attempts=1, callbacks=callbacks, **MODULES)  # fmt: skip
