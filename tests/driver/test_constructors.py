"""No object of the driver or of the Tune interface is wired from many parts: what a run shares is in its context."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import aquasurf_ray.driver
import aquasurf_ray.tune

MOST = 7
INTERFACES = {"ActivationSearch", "Study"}  # its arguments are keywords that users write


def classes():
    """The classes that the two packages define."""
    for package in (aquasurf_ray.driver, aquasurf_ray.tune):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            yield from (
                each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == found.name
            )


def is_record(kind):
    """Whether a class is nothing but named values: a frozen dataclass, a named tuple, a pydantic model."""
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    return frozen or issubclass(kind, tuple) or hasattr(kind, "model_fields")


def test_no_constructor_takes_more_than_seven_arguments():
    counts = {}
    for kind in classes():
        if inspect.isfunction(kind.__init__) and not is_record(kind) and kind.__name__ not in INTERFACES:
            counts[kind.__qualname__] = len(inspect.signature(kind.__init__).parameters) - 1
    assert {"SearchLoop", "Claims", "Preparation", "OtherRuns", "StopConditions", "Session"} <= counts.keys()
    assert {name: n for name, n in counts.items() if n > MOST} == {}
