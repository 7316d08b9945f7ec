"""The search as a Ray Tune search algorithm, and a trainable for it.

ActivationSearch    a Tune `Searcher` over the same spaces, surrogate and store as `aquasurf search`
train_activation    trains one function on one task, reports each epoch and leaves a checkpoint of it

Tuner --suggest--> ActivationSearch --claim--> store
Tuner --config--> train_activation --report--> Tuner --on_trial_complete--> ActivationSearch --record--> store
"""

from aquasurf_ray.tune.searcher import ActivationSearch
from aquasurf_ray.tune.trainable import train_activation

__all__ = ["ActivationSearch", "train_activation"]
