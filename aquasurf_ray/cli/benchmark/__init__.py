"""The commands `benchmark build`, `benchmark replay` and `benchmark evidence`, each in the file of its name."""

from __future__ import annotations

from aquasurf_ray.cli.benchmark import build, evidence, replay
from aquasurf_ray.cli.terminal.commands import Commands

app = Commands(
    help="Train whole search spaces, and replay searches on them.",
    epilog="Example: aquasurf benchmark replay act-bench-digits",
)
app.command(epilog="Example: aquasurf benchmark build digits --space three-node --seeds 3 -o digits.json")(build.build)
app.command(epilog="Example: aquasurf benchmark replay act-bench-digits --baseline random,tpe")(replay.replay)
app.command(epilog="Example: aquasurf benchmark evidence act-bench-digits --experiment combine,fisher")(
    evidence.evidence
)
