"""A driver in a process of its own, whose workers answer after three seconds instead of training.

python scripted_search.py (search TASK | resume NAME) --name=value ...      as keyword arguments of the driver's verbs
"""

from __future__ import annotations

import sys
import time

import ray
import yaml
from scripted_worker import ScriptedWorker

from aquasurf_ray import driver


class SlowWorker(ScriptedWorker):
    @ray.method(concurrency_group="work")
    def train(self, job):
        time.sleep(3.0)
        return super().train(job)


if __name__ == "__main__":
    verb, name, *options = sys.argv[1:]
    chosen = dict(option.removeprefix("--").split("=", 1) for option in options)
    getattr(driver, verb)(name, worker=SlowWorker, **{key: yaml.safe_load(value) for key, value in chosen.items()})
