"""The tables of rates and of the confirmation in docs/evidence.md are what the kept trainings give."""

from __future__ import annotations

import json
from pathlib import Path

from kept_trainings import MEASURED, PAGE, scores

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/2-core-x86_64-vm"
CONFIRMATION = json.loads((RESULTS / "first_run.json").read_text())["confirmation"]
TASKS = ("digits", "friedman", "mnist1d")
FACTORS = {"1/8": 0.125, "1/2": 0.5, "2": 2.0, "each one's best": None}
RATES = {"1/2": "learning_rate*0.5", "1": "", "2": "learning_rate*2"}


def table(name: str) -> list[list[str]]:
    """The cells of a table's rows, between its comments."""
    text = PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in text.strip().splitlines()[2:]]


def test_the_table_of_rates_is_what_the_trainings_give() -> None:
    expected = []
    for task in TASKS:
        n = len({row["function"] for row in MEASURED["trainings"] if row["task"] == task}) - 1
        for name, factor in FACTORS.items():
            own = scores(task, "as it is", factor)
            relu = own.pop("relu(x)", None)
            best = max(own, key=lambda f: own[f])
            against = ["-", "-", "-"]
            if relu is not None:
                ahead = sum(score > relu for score in own.values())
                against = [f"{relu:.3f}", str(ahead), f"{own[best] - relu:+.3f}"]
            expected.append([task, name, str(n), str(len(own)), *against[:2], f"`{best}`", against[2]])
    assert table("rates") == expected


def test_the_sentences_on_rates_say_what_the_table_has() -> None:
    rows = {(task, factor): cells for task, factor, *cells in table("rates")}
    half, twice, own = (rows["friedman", factor] for factor in ("1/2", "2", "each one's best"))
    said = " ".join(PAGE.split())
    assert f"{half[3]} functions are ahead of ReLU at half the rate and {twice[3]} at twice the rate" in said
    assert f"it is {own[3]}, and the largest lead shrinks from {half[5][1:]} to {own[5][1:]}" in said
    assert f"{half[3]} of {half[0]} functions are ahead of ReLU; with each at its best rate it is {own[3]} (" in said
    digits = [rows["digits", factor][1] for factor in FACTORS]
    assert f"{digits[0]} functions train at an eighth of the rate, {digits[1]} at half and {digits[2]} at twice" in said
    trained, ahead = ([rows["mnist1d", factor][i] for factor in FACTORS] for i in (1, 3))
    assert len(set(trained)) == 1
    assert f"{trained[0]} functions train at every rate; {ahead[0]} of them are ahead of ReLU at an eighth" in said
    assert (ahead[2], ahead[3]) == ("0", "1")


def test_the_table_of_the_confirmation_is_that_of_the_first_run() -> None:
    expected = []
    for each in CONFIRMATION["functions"]:
        if each["judged"]:
            tried = " / ".join(f"{each['tried'][change]:.4f}" for change in RATES.values())
            (rate,) = (name for name, change in RATES.items() if change == each["recipe_change"])
            gain = f"{each['gain']:+.4f} [{each['gain_low']:+.4f}, {each['gain_high']:+.4f}]"
            gain = "-" if each["function"] == CONFIRMATION["reference"] else gain
            p = "-" if each["p"] is None else f"{each['p']:.3f}"
            expected.append([f"`{each['function']}`", tried, rate, f"{each['test']:.4f}", gain, p])
    assert table("confirmation") == expected
    assert CONFIRMATION["winner"] is None, "the page says that no function beats ReLU"
    assert (CONFIRMATION["seeds"], CONFIRMATION["choosing_seeds"]) == ([1, 2, 3, 4, 5], [6])
    assert all(each["tried"] for each in CONFIRMATION["functions"] if each["baseline"])
