"""The names of the surrogates that a run can have; `surrogate.settings` defines the surrogates themselves.

Nothing heavy is imported here, because the command line shows the names and the default in its help.
"""

from __future__ import annotations

from typing import Literal

SurrogateName = Literal["aquasurf", "metric"]

DEFAULT_SURROGATE: SurrogateName = "metric"
"""The surrogate of a new run that names none. An existing run keeps its own, even if the default has changed since."""

EARLIER_SURROGATE: SurrogateName = "aquasurf"
"""The only surrogate of early versions, whose stored configurations do not name it."""

REGRESSORS: dict[SurrogateName, str] = {"aquasurf": "knr", "metric": "gp"}
"""The default regressor of each surrogate."""
