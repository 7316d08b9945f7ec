"""Import the modules in which users register their own operators, before any function that uses them is parsed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

from aquasurf_ray.driver.errors import BadUse


def import_modules(names: Iterable[str]) -> None:
    """Import modules, looking in the working folder first. Their output goes to standard error: stdout is for results.

    Raises:
        BadUse: a module cannot be imported; the message includes its error.
    """
    for name in names:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            with redirect_stdout(sys.stderr):
                importlib.import_module(name)
        except (Exception, SystemExit) as error:  # importing the user's module runs the user's code
            message = " ".join(str(error).split())
            raise BadUse(f"module '{name}' cannot be imported: {type(error).__name__}: {message}") from error
