"""Maps of the candidates, on which functions with similar spectra, outputs or both are near each other (section 3 of
the paper: the embedding of each feature alone, and of their union)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations import ActivationError
from aquasurf_ray.activations.identity import N_POINTS, outputs_of_roles
from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.replay.features import kept_embedding
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Mark, Panel, Points, Symbol
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.surrogate.embedding import EmbeddingConfig, Features
from aquasurf_ray.surrogate.spectra import feature_matrix

_TITLES: dict[Features, str] = {"spectrum": "by spectrum", "outputs": "by outputs", "both": "by both"}


def maps(findings: Findings) -> Chart | None:
    """Draw up to three maps, coloured by score, with the best function and the reference marked in each."""
    if len(findings.candidates) < 2:
        return None
    places = _places(findings)
    shown = {features: place for features, place in places.items() if np.isfinite(place).all(axis=1).sum() > 1}
    if not shown:
        return None
    last = list(shown)[-1]
    panels = tuple(_panel(findings, _TITLES[kind], place, scale=kind == last) for kind, place in shown.items())
    n = len(findings.candidates)
    scores = _trained(findings)
    known = np.array([scores[function.id] for function in findings.candidates if function.id in scores])
    words = (
        f"{n} candidates. Functions with similar {' or '.join(_kinds(shown))} are close together. "
        f"{len(known)} are coloured by {findings.metric_name}, the better the brighter"
        f"{on_the_edge(known, 'in the darkest colour')}; grey points were not trained, or diverged.{_named(findings)}"
    )
    return Chart("map", "Maps of the candidates", words, panels, height=420)


def _kinds(shown: dict[Features, Floats]) -> list[str]:
    return [kind for kind in ("spectrum", "outputs") if kind in shown]


def _places(findings: Findings) -> dict[Features, Floats]:
    """Return the coordinates of the candidates by feature, float64 [n, 2]; NaN where a candidate is not placed."""
    roles = findings.run.config.get("roles") or ()
    values = np.stack([_outputs(function.name, roles) for function in findings.candidates])
    spectra, stored_map = np.full((len(values), 1), np.nan, dtype=np.float32), _map_of_run(findings)
    known = not findings.quick and any(function.id in findings.spectra for function in findings.candidates)
    if known:
        features = [findings.spectrum(function.id) for function in findings.candidates]
        spectra = feature_matrix(features, findings.run.config.get("layer_weighting", "inverse"))
    places: dict[Features, Floats] = {}
    for kind in _kinds_to_draw(stored_map, known):
        if kind == "both" and stored_map is not None:
            places[kind] = stored_map
        else:
            config = EmbeddingConfig(features=kind, seed=findings.run.seed)
            places[kind] = kept_embedding(values, spectra, config).coordinates.astype(np.float64)
    return places


def _kinds_to_draw(run_map: Floats | None, known: bool) -> tuple[Features, ...]:
    """Return the kinds of maps to draw. A map with spectra changes with each further spectrum, so a quick report has
    none but the run's own."""
    if known:
        return ("spectrum", "outputs", "both")
    return ("outputs", "both") if run_map is not None else ("outputs",)


def _map_of_run(findings: Findings) -> Floats | None:
    """Return the map that the run itself computed of all its candidates, if there is one."""
    stored = findings.embedding
    if stored is None or stored.config.get("features") != "both":
        return None
    place = {int(number): xy for number, xy in zip(stored.function_ids, stored.coordinates, strict=True)}
    if not all(function.id in place for function in findings.candidates):
        return None
    return np.array([place[function.id] for function in findings.candidates], dtype=np.float64)


def _outputs(name: str, roles: Sequence[str]) -> NDArray[np.float32]:
    """Return the function's outputs in each role; NaN if the module that registers its operators is missing."""
    try:
        return outputs_of_roles(name, roles)
    except ActivationError:
        return np.full(N_POINTS * max(1, len(roles)), np.nan, dtype=np.float32)


def _trained(findings: Findings) -> dict[int, float]:
    """Return the best score by function."""
    return {row.function_id: row.score for row in reversed(findings.board)}  # the best of a function comes last


def _landmarks(findings: Findings) -> list[tuple[str, Symbol, LeaderboardRow]]:
    """Return what to find at a glance: the best function of the search, and the reference."""
    found: list[tuple[str, Symbol, LeaderboardRow]] = []
    if findings.best_functions:
        found.append(("best", "star", findings.best_functions[0]))
    if findings.reference:
        found.append((findings.reference.function, "diamond", findings.reference))
    return found


def _named(findings: Findings) -> str:
    """Return the sentence of the caption on the landmarks."""
    shown = [f"the {symbol} is {readable(row.function)}" for _, symbol, row in _landmarks(findings)]
    sentence = " and ".join(shown)
    return f" {sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _panel(findings: Findings, title: str, place: Floats, *, scale: bool) -> Panel:
    scores, row = _trained(findings), {function.id: i for i, function in enumerate(findings.candidates)}
    trained = [function.id in scores for function in findings.candidates]
    names = np.array([function.name for function in findings.candidates], dtype=object)
    is_trained = np.array(trained)
    known = np.array([scores[f.id] for f in findings.candidates if f.id in scores])
    floor = lowest_shown(known) if len(known) else 0.0
    colours = np.array([findings.value(max(score, floor)) for score in known])
    rest, done = place[~is_trained], place[is_trained]
    marks: list[Mark] = [
        Points("not trained", rest[:, 0], rest[:, 1], tuple(names[~is_trained]), GREY, size=4),
        Points(
            "trained",
            done[:, 0],
            done[:, 1],
            tuple(names[is_trained]),
            values=colours,
            scale=findings.metric_name if scale else "",
            less_is_better=not findings.task.metric.higher_is_better,
            size=8,
        ),
    ]
    for name, symbol, found in _landmarks(findings):
        at = place[[row[found.function_id]]] if found.function_id in row else np.zeros((0, 2))
        marks.append(Points(name, at[:, 0], at[:, 1], (found.function,) * len(at), 1, symbol=symbol, size=14))
    return Panel(tuple(marks), Axis(ticks=False), Axis(ticks=False), title, legend=False)
