"""The table of docs/reliability.md: which fault is injected how, what must hold, and how often it did in a run of the
tests.

A test says which case it tries with `@pytest.mark.reliability(key)`, and how often it injects the fault with the
fixture `injections` (once, if it does not say). With AQUASURF_FAULTS set, each such test leaves a line of JSON in that
file; `python tests/made/reliability.py FILE` puts the table that they make into the page, and
`python tests/made/reliability.py FILE --print` only shows it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: make reliability -->", "<!-- end of the table -->"
HEAD = "| case | how it is injected | what holds | tests | injected | held |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Case:
    """A row of the table; `key` is what the tests name."""

    key: str
    what: str
    how: str
    holds: str


@dataclass
class Injections:
    """How often a test has injected its fault."""

    n: int = 0

    def add(self, n: int = 1) -> None:
        self.n += n


def record(file: Path, case: str, test: str, outcome: str, injected: int) -> None:
    """Appends what one test saw: of a test that failed, the last injection did not hold."""
    held = injected if outcome == "passed" else max(0, injected - 1)
    line = {"case": case, "test": test, "outcome": outcome, "injected": injected, "held": held}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def table(cases: tuple[Case, ...], lines: list[dict[str, object]]) -> str:
    """The table in Markdown. A case that no test was run for has zeros."""
    return "\n".join([HEAD, *(_row(case, [line for line in lines if line["case"] == case.key]) for case in cases)])


def _row(case: Case, lines: list[dict[str, object]]) -> str:
    tests = ", ".join(sorted({f"`{line['test']}`" for line in lines})) or "not run"
    injected, held = (sum(int(str(line[key])) for line in lines) for key in ("injected", "held"))
    return f"| {case.what} | {case.how} | {case.holds} | {tests} | {injected} | {held} |"


def read(file: Path) -> list[dict[str, object]]:
    """The lines of a run; tests that were skipped have none."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def with_table(page: str, made: str) -> str:
    """The page with this table in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{made}\n{rest[rest.index(END) :]}"


def main(file: str, *options: str) -> None:
    from fault_cases import CASES as cases

    made = table(cases, read(Path(file)))
    if "--print" in options:
        print(made)
    else:
        PAGE.write_text(with_table(PAGE.read_text(), made))


def log_of_this_run() -> Path | None:
    """Where tests leave their lines, if anywhere."""
    return Path(os.environ["AQUASURF_FAULTS"]) if os.environ.get("AQUASURF_FAULTS") else None


if __name__ == "__main__":
    main(*sys.argv[1:])
