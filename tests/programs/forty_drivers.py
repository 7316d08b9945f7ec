"""Forty drivers as processes of their own, each with a run of its own on one database; forked after the imports, so
that they share what these take.

python forty_drivers.py URL N      prints one line of JSON a driver: its name, its exit status, its seconds
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time

from light_driver import without_ray


def drive(url, number):
    """One driver. Half of them draw the same candidates in pairs, all of them train the same baselines."""
    from aquasurf_ray.cli.main import main

    name, started = f"run{number}", time.monotonic()
    options = {"name": name, "seed": number // 2, "store": url, "candidates": 20, "evaluations": 6, "workers": 2}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["search", "digits", *(f"--{key}={value}" for key, value in options.items())])
    words = said.getvalue()[-2000:] if code else ""
    line = {"name": name, "code": code, "seconds": time.monotonic() - started, "said": words}
    os.write(1, (json.dumps(line) + "\n").encode())
    return code


if __name__ == "__main__":
    url, n = sys.argv[1], int(sys.argv[2])
    without_ray()
    from aquasurf_ray.tasks import load_task

    _ = load_task("digits").digest
    children = []
    for number in range(n):
        child = os.fork()
        if child == 0:
            os._exit(drive(url, number) & 0xFF)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
