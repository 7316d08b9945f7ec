"""Notes as warnings of a logger, for programs whose terminal is not this package's."""

from __future__ import annotations

from logging import Logger

from aquasurf_ray.driver.events import Event, Note


class NotesToLog:
    """A callback that sends notes to a logger."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def on_event(self, event: Event) -> None:
        """Log a note as a warning."""
        if isinstance(event, Note):
            self._logger.warning(event.text)
