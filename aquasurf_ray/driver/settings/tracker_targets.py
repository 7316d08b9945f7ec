"""The targets of `--log-to`: the known trackers, and the package that each one needs."""

from __future__ import annotations

from importlib.util import find_spec

MODULES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny", "wandb": "wandb"}


def check_target(target: str) -> str:
    """Return the target unchanged, if it is valid and its package is installed.

    Raises:
        ValueError: the target is not valid, or its package is not installed.
    """
    kind, _, where = target.partition(":")
    if kind not in MODULES or not where:
        raise ValueError(f"must be tensorboard:FOLDER, mlflow:URI or wandb:PROJECT, got '{target}'")
    if find_spec(MODULES[kind]) is None:
        raise ValueError(f"{MODULES[kind]} is not installed; get it with: pip install {PACKAGES[kind]}")
    return target
