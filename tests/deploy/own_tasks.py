"""Tasks of a user's own, found by their module's name in the folder that a job is started in."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from aquasurf_ray.tasks import Task, TaskError, load_task


def quick() -> Task:
    """The digits under a name of one's own."""
    return replace(load_task("digits"), name="quick")


def slow() -> Task:
    """The digits, with trainings of at least 6 s that cost little: 120 batches, each waited for."""
    return replace(load_task("digits"), name="slow", augment=partial(_wait, 0.05))


def long() -> Task:
    """Trainings of at least 18 s."""
    return replace(load_task("digits"), name="long", augment=partial(_wait, 0.15))


def broken() -> Task:
    """A task that any worker refuses, and the driver does not."""
    return replace(load_task("digits"), name="broken", network=_no_network)


def _wait(seconds, inputs, generator):
    time.sleep(seconds)
    return inputs


def _no_network(activation):
    import ray

    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        raise TaskError("the network needs a library that this machine has not")
    return load_task("digits").network(activation)
