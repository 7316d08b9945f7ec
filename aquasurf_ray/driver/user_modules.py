"""Register users' own operators, before any function that uses them is parsed: import the modules that do."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from aquasurf_ray.driver.errors import BadUse

if TYPE_CHECKING:
    from aquasurf_ray.store import Run

INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
PACKAGES = ("dist-packages", "site-packages")


def register_operators_of(run: Run) -> None:
    """Register the operators of a run's functions in a process that reads the run: import its modules, and take the
    operators of its task's own network, whose code may not be here, by their values.

    Raises:
        BadUse: a module cannot be imported.
    """
    import_modules(run.config.get("modules") or ())
    register_values_of(run)


def register_values_of(run: Run) -> None:
    """Register the operators whose values a run keeps, unless this process knows the operators themselves."""
    from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS

    values = run.config.get(OWN_OPERATORS)
    if values:
        from aquasurf_ray.driver.stand_ins import register_stand_ins  # loads PyTorch

        register_stand_ins(values)


def own_import_path() -> list[str]:
    """Return the folders that this process imports the user's own modules from, the first before the second: its import
    path without Python's library and installed packages, which other nodes have of their own."""
    paths = sysconfig.get_paths()
    installed = {Path(paths[kind]).resolve() for kind in INSTALLED}

    def is_own(folder: Path) -> bool:
        real = folder.resolve()
        return folder.is_dir() and not any(each in installed or each.name in PACKAGES for each in (real, *real.parents))

    found = [str(path) for each in sys.path if is_own(path := Path(each).absolute())]
    return list(dict.fromkeys(found if str(Path.cwd()) in found else [str(Path.cwd()), *found]))


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
