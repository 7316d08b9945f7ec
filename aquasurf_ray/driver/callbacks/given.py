"""The callbacks that a caller gives, checked before a run begins."""

from __future__ import annotations

from collections.abc import Iterable

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback


def checked_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks.

    Raises:
        BadUse: `callbacks` is not a list of objects with a method `on_event`.
    """
    # Checked before the run begins: an error in `on_event` is only noted, and the run would continue for nothing.
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise BadUse(f"callbacks must be a list, got {callbacks!r:.60}; write callbacks=[MyCallback()]")
    given = tuple(callbacks)
    for each in given:
        if isinstance(each, type) or not callable(getattr(each, "on_event", None)):
            raise BadUse(f"a callback must be an object with a method on_event(event), got {each!r:.60}{_hint(each)}")
    return given


def _hint(callback: object) -> str:
    if isinstance(callback, type):
        return f"; create one: {callback.__name__}()"
    return "; put a function into a class, as docs/callbacks.md shows" if callable(callback) else ""
