"""How commands that train show how far they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aquasurf_ray.driver.progress import Reporter


@contextmanager
def progress(as_json: bool) -> Iterator[Reporter]:
    """Bars on a terminal, lines elsewhere, nothing beside JSON; always gives the terminal back.

    Meanwhile standard output is standard error: Ray and the user's own code may print, and only results go there.
    """
    from aquasurf_ray.driver.progress import Bars, Lines, Silent

    reporter: Reporter = Silent() if as_json else Bars() if sys.stderr.isatty() else Lines()
    try:
        with redirect_stdout(sys.stderr):
            yield reporter
    finally:
        reporter.close()
