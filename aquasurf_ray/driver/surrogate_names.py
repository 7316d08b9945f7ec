"""The surrogates that a run can have, by name; what they are is said in `surrogate.settings`.

Nothing is imported here, since the command line tells the names and the default in its help.
"""

from __future__ import annotations

from typing import Literal

SurrogateName = Literal["aquasurf", "metric"]

DEFAULT_SURROGATE: SurrogateName = "metric"
"""Of new runs that are not told; one that exists goes on with its own, whatever the default is by now."""

EARLIER_SURROGATE: SurrogateName = "aquasurf"
"""Of the versions that had no other, whose runs do not say it."""

REGRESSORS: dict[SurrogateName, str] = {"aquasurf": "knr", "metric": "gp"}
"""Of a run that does not name one."""
