"""The driver and the workers of a run, as `status` prints them."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.analysis.studies.activity import WORKER_COLUMNS
from aquasurf_ray.cli.terminal.output import print_table

LOOP_COLUMNS = ("host", "pid", "trials", "trains", "state", "heartbeat_age")
CAUSE_COLUMNS = ("tries", "cause")


def print_activity(document: dict[str, Any]) -> None:
    """Print the document below the state of the run."""
    driver, live = document["driver"], document["live"]
    if driver is not None:
        since = driver["since"].isoformat(timespec="seconds") if driver["since"] else "-"
        print(f"\ndriven by {driver['host']} pid {driver['pid']} since {since}: {_heartbeat_text(driver)}")
        if driver["stop_asked_by"]:
            print(f"stop requested from {driver['stop_asked_by']}")
    if document["loops"]:
        print("\nprocesses of the study:")
        print_table(LOOP_COLUMNS, [[loop[column] for column in LOOP_COLUMNS] for loop in document["loops"]])
    if live is not None:
        _print_live(live, alive=driver is not None and driver["state"] == "alive")
    if document["failure_causes"]:
        print("\nfailed attempts by cause:")
        print_table(CAUSE_COLUMNS, [[cause["tries"], cause["cause"]] for cause in document["failure_causes"]])


def _heartbeat_text(driver: dict[str, Any]) -> str:
    if driver["state"] == "dead":
        return "it has died"
    beat = "no heartbeat yet" if driver["heartbeat_age"] is None else f"heartbeat {driver['heartbeat_age']:.0f} s ago"
    return f"{beat}, so it has died or cannot be reached" if driver["state"] == "silent" else beat


def _print_live(live: dict[str, Any], *, alive: bool) -> None:
    """Print the last live report; a rate and a remaining time only make sense while the driver is alive."""
    from aquasurf_ray.duration_text import duration_text

    if live["ending"]:
        print(f"ending: {live['ending']}")
    if live["per_hour"] is not None and alive:
        print(f"{live['per_hour']:.1f} evaluations per hour, about {duration_text(live['seconds_left'])} left")
    print(f"\nworkers, {live['age']:.0f} s ago:")
    rows = [[worker[column] for column in WORKER_COLUMNS] for worker in live["workers"]]
    print_table(WORKER_COLUMNS, rows, {"seconds": 0, "gpu_percent": 0})
