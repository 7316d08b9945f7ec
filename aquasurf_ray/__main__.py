"""`python -m aquasurf_ray` is the command `aquasurf`."""

from aquasurf_ray.cli.main import run

run()
