"""Spectra that a study's process computes itself, and those that other processes have stored meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import torch

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.store_records import spectrum_record
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.store import FunctionRecord
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.workers.activation_use import refuse_unused_activation
from aquasurf_ray.workers.compact_spectrum import compact_spectrum
from aquasurf_ray.workers.messages import SpectrumReply
from aquasurf_ray.workers.network import try_network

BATCH_SECONDS = 2.0
"""Time after which computed spectra are stored, and those of other processes are read."""


class StudySpectra:
    """The spectra of a study's candidates.

    Args:
        source: the task whose network is looked at; None for a study without spectra.
    """

    def __init__(self, context: RunContext, source: Task | None) -> None:
        self._context, self._source = context, source
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._splits: Splits | None = None
        # Processes begin at different candidates, so that hardly any spectrum is computed twice.
        self._draw = random.Random()  # noqa: S311 - an order, not a secret

    def missing(self, n: int) -> list[FunctionRecord]:
        """Return the candidates among the first `n` whose spectrum is not known."""
        return [] if self._source is None else self._context.history.without_spectrum(n)

    def compute(self, n: int, most: int | None = None) -> int:
        """Compute spectra of the first `n` candidates for about two seconds, and return how many.

        Raises:
            BadUse: the network cannot be used, or ignores its activation.
            SpectrumError: the network has no Fisher spectrum.
        """
        self.read(n)
        missing = self.missing(n)
        self._draw.shuffle(missing)
        began, done = time.monotonic(), list[FunctionRecord]()
        replies = []
        for function in missing[:most]:
            if done and time.monotonic() - began > BATCH_SECONDS:
                break
            replies.append(self._reply(function.name))
            done.append(function)
        context = self._context
        records = [spectrum_record(f.id, reply, context.config) for f, reply in zip(done, replies, strict=True)]
        if records:
            coverage = next((reply.coverage for reply in replies if reply.coverage is not None), None)
            context.store.record_spectra(context.lease, records, coverage)
        self._put(done)
        return len(done)

    def read(self, n: int) -> None:
        """Read spectra of the first `n` candidates that other processes have stored."""
        self._put(self.missing(n))

    def _put(self, functions: Sequence[FunctionRecord]) -> None:
        if functions:
            context, config = self._context, self._context.config
            ids = [function.id for function in functions]
            # As stored: if another process was first, its spectrum counts.
            found = context.store.spectra(context.lease.task_id, ids, fisher=config.fisher, seed=config.training_seed)
            context.history.spectra.update(found)

    def _reply(self, function: str) -> SpectrumReply:
        assert self._source is not None  # noqa: S101 - without it, no spectrum is missing
        config = self._context.config
        return compact_spectrum(
            self._source,
            self._loaded(self._source),
            function,
            seed=config.training_seed,
            device=self._device,
            fisher=config.fisher,
        )

    def _loaded(self, source: Task) -> Splits:
        """Return the data; the first time, once the network is known to work on them and to use its activation."""
        if self._splits is None:
            try:
                splits = source.splits()
                inputs = try_network(source, splits, device=self._device)
                refuse_unused_activation(source, splits, inputs, device=self._device)
            except TaskError as error:
                raise BadUse(str(error)) from error
            self._splits = splits
        return self._splits
