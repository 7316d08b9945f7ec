"""A function's document (`function_document`) as lines for people."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.cli.terminal.family import family_lines
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text


def print_function(document: dict[str, Any]) -> None:
    """Print a function: its formula, spectra, costs, seeds, evaluations and family."""
    print(document["function"])
    if document["unreadable"]:
        print(f"  unreadable   {document['unreadable']}")
    else:
        if (name := readable(document["function"])) != document["function"]:
            print(f"  name         {name}")
        print(f"  in words     {document['words']}")
        print(f"  LaTeX        {document['latex']}")
    print(f"  fingerprint  {document['fingerprint']}")
    equal = document["equal_functions"]
    if equal:
        more = f" and {len(equal) - 5} more" if len(equal) > 5 else ""
        print(f"  equal to     {', '.join(equal[:5])}{more}")
    for spectrum in document["spectra"]:
        reason = f": {spectrum['reason']}" if spectrum["reason"] else ""
        what = f"{spectrum['task']}, {spectrum['fisher']}, seed {spectrum['seed']}"
        print(f"  spectrum     {what}, {spectrum['status']}{reason}")
    for cost in document["costs"]:
        ratios = f"{cost['time_ratio']:.2f} x the step time of ReLU, {cost['memory_ratio']:.2f} x its activation memory"
        print(f"  cost         {cost['task']} on {cost['device']}: {ratios}")
    for seeds in document["seeds"]:
        values = ", ".join("diverged" if value is None else value_text(value) for value in seeds["values"].values())
        numbers = ", ".join(map(str, seeds["values"]))
        of = seeds["task"] if seeds["imported"] is None else f"{seeds['task']} as run '{seeds['imported']}' (imported)"
        of += f", {seeds['recipe_change']}" if seeds["recipe_change"] else ""
        print(f"  seeds        {of}, {on_split(seeds['metric'])} with seeds {numbers}: {values}")
        if seeds["mean"] is not None:
            print(f"  mean         {_mean_text(seeds)}")
    for evaluation in document["evaluations"]:
        _print_evaluation(evaluation)
    if not document["evaluations"]:
        print("  not trained in this store")
    for family in document["families"]:
        for line in family_lines(family):
            print(f"  {line}")


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    at_change = f", {evaluation['recipe_change']}" if evaluation["recipe_change"] else ""
    which = f"run '{evaluation['run']}', task {evaluation['task']}, seed {evaluation['seed']}{at_change}"
    print(f"  {which}: {evaluation['status']}")
    metric = evaluation["metric"]
    for key in dict.fromkeys((on_split(metric), on_split(metric, "test"), "val_loss")):
        if evaluation[key] is not None:
            print(f"    {key:<16} {value_text(evaluation[key])}")
    if evaluation["precision"]:
        print(f"    {'training':<16} {_training_text(evaluation)}")
    for key in ("stopped_early", "reason", "error"):
        if evaluation[key]:
            print(f"    {key.replace('_', ' '):<16} {evaluation[key]}")
    for values in evaluation["learned"]:
        print(f"    {'learned':<16} {_learned_text(values)}")
    if evaluation["learned_in_own_loop"]:
        print(f"    {'learned':<16} not stored: the values are in the networks of the study's own loop")
    why = evaluation["suggestion"]
    origin = f"{evaluation['origin']}, number {evaluation['position']} of the run"
    print(f"    {'origin':<16} {origin}{', result reused from another run' if evaluation['reused'] else ''}")
    if why:
        predicted = "none" if why["predicted"] is None else value_text(why["predicted"])
        print(f"    {'predicted':<16} {predicted}, rank {why['rank']} of the remaining candidates")
        # Distances on a map have no unit; those of the metric surrogate are scaled by their median.
        unit = " of the median distance" if why["surrogate"] == "metric" else ""
        for neighbor in why["nearest_trained"]:
            value = "diverged" if neighbor["score"] is None else value_text(neighbor["value"])
            trained = with_change(neighbor["function"], neighbor["recipe_change"] or "")
            print(f"    {'neighbor':<16} {trained}: {value}, {neighbor['distance']:.3f}{unit} away")
        basis = "features" if why["features_version"] else "embedding"
        print(f"    {basis:<16} {why[f'{basis}_version']}")


def _mean_text(seeds: dict[str, Any]) -> str:
    """Return a mean with its interval, over which seeds it is, and which of the others a search selected by:
    `0.5467, 95% interval 0.51 to 0.58, over seeds 1, 2, 3; a search selected by seed 0`."""
    text = value_text(seeds["mean"])
    if seeds["low"] is not None:
        text += f", 95% interval {value_text(seeds['low'])} to {value_text(seeds['high'])}"
    over, selecting = seeds["mean_seeds"], seeds["selecting_seeds"]
    if len(over) < len(seeds["values"]):
        text += f", over seed{'s' if len(over) > 1 else ''} {', '.join(map(str, over))}"
    left_out = [seed for seed in selecting if seed not in over]
    if left_out:
        text += f"; a search selected by seed{'s' if len(left_out) > 1 else ''} {', '.join(map(str, left_out))}"
    return text + ("; a search selected by these seeds" if set(over) <= set(selecting) else "")


def _learned_text(values: dict[str, Any]) -> str:
    """Return what one parameter became: `a of layer '1': 0.25 to 0.18 (spread 0.05 over 64 channels); 0.21, 0.18`."""
    n, course = values["n_channels"], values["course"]
    spread = f" (spread {values['spread']:.3g} over {n} channels)" if n else ""
    every = max(1, -(-len(course) // 6))  # at most six points of the course, the last one among them
    points = ", ".join(f"{mean:.4g}" for mean in course[::-1][::every][::-1])
    became = f"{values['initial']:.4g} to {values['mean']:.4g}{spread}"
    return f"{values['parameter']} of layer '{values['layer']}': {became}; course {points}"


def _training_text(evaluation: dict[str, Any]) -> str:
    """Return how an evaluation was trained: `bfloat16 on 4 x NVIDIA H100, 120.5 s, 31000 examples/s`."""
    n, rate = evaluation["n_devices"] or 1, evaluation["examples_per_second"]
    parts = [f"{evaluation['precision']} on {f'{n} x ' if n > 1 else ''}{evaluation['device']}"]
    parts += [] if evaluation["seconds"] is None else [f"{evaluation['seconds']:.1f} s"]
    parts += [] if rate is None else [f"{rate:.0f} examples/s"]
    return ", ".join(parts)
