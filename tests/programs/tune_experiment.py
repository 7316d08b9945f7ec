"""A Tune experiment on the digits in a process of its own: begun, or gone on with, in the folder and cluster given."""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from aquasurf_ray.tune import ActivationSearch, train_activation

EPOCHS = 2
POINTS = ("relu(x)", "swish(x)", "tanh(x)", "elu(x)")
TRIALS = 8
CANDIDATES = 24


def search(url):
    """The search, whoever trains."""
    points = [{"activation": function} for function in POINTS]
    options = {"trials": TRIALS, "max_concurrent": 1, "points_to_evaluate": points, "candidates": CANDIDATES}
    return ActivationSearch("digits", {"epochs": EPOCHS}, name="one", store=url, fast_activations="off", **options)


def main(verb, folder, address):
    """Fits or restores the experiment."""
    ray.init(address, namespace="tune", log_to_driver=False)
    trainable = tune.with_resources(train_activation, {"cpu": 1})
    if verb == "restore":
        tune.Tuner.restore(f"{folder}/tune/one", trainable).fit()
        return
    scheduler = ASHAScheduler(max_t=EPOCHS, grace_period=EPOCHS)
    how = tune.TuneConfig(
        search_alg=search(f"sqlite:///{folder}/aquasurf.db"),
        scheduler=scheduler,
        metric="score",
        mode="max",
        num_samples=-1,
        reuse_actors=True,
    )
    run = tune.RunConfig(
        name="one",
        storage_path=str(Path(folder) / "tune"),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        verbose=0,
    )
    tune.Tuner(trainable, tune_config=how, run_config=run).fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
