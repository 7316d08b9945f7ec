"""The Fisher information spectrum of the untrained network, layer by layer, with the best function and the reference.

In a network with roles, a layer belongs to the role of the first activation that its output reaches
(`workers.role_layers`); the layers are grouped by that.
"""

from __future__ import annotations

import numpy as np

from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.analysis.report.charts.chart import Axis, Chart, Line, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.surrogate.spectra import SpectrumFeature

MOST_LAYERS = 12


def spectra(findings: Findings) -> Chart | None:
    """Draw cumulative shares of the log-eigenvalues; of a network with many layers, some at even distances."""
    best = None if findings.best is None else findings.best.row
    rows = [row for row in (best, findings.reference) if row is not None]
    found = {row.function: findings.spectrum(row.function_id) for row in rows}
    features = {name: feature for name, feature in found.items() if feature is not None}
    if not features:
        return None
    layers = next(iter(features.values())).names
    groups = _groups(findings, layers)
    most = max(1, MOST_LAYERS // len(groups))
    shown = [(title, layer) for title, members in groups.items() for layer in _at_even_distances(members, most)]
    panels = tuple(_panel(features, layer, title, legend=n == 0) for n, (title, layer) in enumerate(shown))
    restriction = "" if len(shown) == len(layers) else f" Showing {len(shown)} of {len(layers)} layers."
    words = (
        f"Share of log-eigenvalues below each value for {' and '.join(features)}. Further to the right is more "
        f"curvature; steeper is a more even spectrum.{restriction}{_grouped(groups)}{_covered(findings)}"
    )
    return Chart("spectra", "Spectra by layer", words, panels, height=240)


def _groups(findings: Findings, layers: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the numbers of the layers by the title of their group: the roles in the network's order, then the layers
    without one. All are in one group without a title if the roles of the layers are not known."""
    role_of = findings.layer_roles
    if not role_of:
        return {"": list(range(len(layers)))}
    titles: dict[str | None, str] = {role: f"role {role}" for role in findings.roles}
    titles |= {"": "no role", None: "role unknown"}
    groups = {
        title: [i for i, name in enumerate(layers) if role_of.get(name) == role] for role, title in titles.items()
    }
    return {title: members for title, members in groups.items() if members}


def _at_even_distances(members: list[int], most: int) -> list[int]:
    places = np.unique(np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int))
    return [members[place] for place in places]


def _grouped(groups: dict[str, list[int]]) -> str:
    if "" in groups:
        return ""
    sizes = "; ".join(f"{title}: {len(members)}" for title, members in groups.items())
    return (
        " Layers are grouped by role, which is that of the first activation that a layer's output reaches in a pass "
        f"through the network ({sizes})."
    )


def _covered(findings: Findings) -> str:
    if findings.coverage is None:
        return ""
    return f" {findings.coverage[0].upper()}{findings.coverage[1:]}."


def _panel(features: dict[str, SpectrumFeature], layer: int, group: str, *, legend: bool) -> Panel:
    marks = []
    for colour, (name, feature) in enumerate(features.items()):
        quantiles = feature.quantiles[layer]
        share = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
        every = max(1, len(quantiles) // 100)  # about a hundred points draw a smooth curve on a small panel
        curve = quantiles[::every], share[::every]
        marks.append(Line(short_name(name), *curve, 1 if colour else 0, "dash" if colour else "solid"))
    name, n_weights = (next(iter(features.values())).names[layer], next(iter(features.values())).n_weights[layer])
    title = f"layer {name} ({n_weights:,} weights)"
    return Panel(
        tuple(marks),
        Axis("log eigenvalue"),
        Axis("share", (0, 1)),
        f"{group}\n{title}" if group else title,
        legend,
    )
