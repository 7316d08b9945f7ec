"""What docs/scale.md says of the start of commands is what the kept results give."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/2-core-x86_64-vm/start.json").read_text(encoding="utf-8"))
SECTION = (ROOT / "docs/scale.md").read_text(encoding="utf-8").partition("## How fast commands start")[2]
TEXT = " ".join(SECTION.partition("\n## ")[0].split())


def test_commands_that_only_read_take_less_than_seven_tenths_of_a_second() -> None:
    best = {name: found["best"] for name, found in KEPT["processor_seconds"].items()}
    assert max(best[name] for name in ("status", "status NAME", "top", "show")) < 0.7
    assert f"`status` takes {best['status']} s, `top` {best['top']} s and `show` {best['show']} s" in TEXT
    assert f"importing SQLAlchemy takes {best['import sqlalchemy']} s" in TEXT
    assert f"take {best['find']} and {best['report']} s" in TEXT


def test_the_time_to_the_first_training_is_told_with_its_parts() -> None:
    first = KEPT["first_training"]
    assert f"it is {first['command_to_first_training_seconds']} s, which is {first['times_the_sum']} times" in TEXT
    assert f"importing PyTorch ({first['import_torch_seconds']} s)" in TEXT
    assert f"starting Ray ({first['ray_init_seconds']} s)" in TEXT
    assert f"an actor that imports PyTorch ({first['actor_seconds']} s)" in TEXT
    assert f"which its optimizers load in every training ({first['optimizer_seconds']} s)" in TEXT
    assert first["starts"] == 5
    assert "medians of five starts" in TEXT
