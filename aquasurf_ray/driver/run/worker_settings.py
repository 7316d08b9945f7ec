"""The settings of a run's workers, from its configuration."""

from __future__ import annotations

from aquasurf_ray.cpu_threads import threads_of
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import data_folder
from aquasurf_ray.driver.user_modules import own_import_path
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.messages import ImportPath, WorkerSettings


def worker_settings(
    config: SearchConfig,
    task: Task | str,
    *,
    storage: str | None = None,
    gpu: bool = False,
    task_digests: dict[str, str] | None = None,
) -> WorkerSettings:
    """Return the settings of each worker.

    Args:
        task: the task itself, or its name for workers to load it.
        storage: where checkpoints are written; None for workers that train nothing.
        gpu: whether workers have a GPU.
        task_digests: what the workers' task must be: see `WorkerSettings`.
    """
    return WorkerSettings(
        task=task,
        # Ray starts workers in a folder of its own, where a task next to the user's script would not be found.
        import_from=ImportPath(own_import_path()),
        modules=config.modules,
        storage=storage,
        gpu=gpu,
        threads=threads_of(config.cpus_per_worker),
        fisher=config.fisher,
        spectrum_seed=config.training_seed,
        checkpoint_interval=config.checkpoint_interval,
        data_folder=data_folder(config),
        fast_activations=config.fast_activations == "on",
        loader_workers=config.loader_workers,
        task_digests=task_digests,
    )
