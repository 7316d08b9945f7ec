"""Your own model: its activations are found, replaced, and reported.

replace             `replace_activations` and its report
places              which parts of a network hold an activation, and the choice among them
activation_kinds    the classes and functions that are activations, and the one rule for gates
called_activations  the activations that a network's code calls, found by running it
value_flow          whether a function's values are those of a gate, or of an activation that the code writes out
replaced_calls      the searched function in the place of such calls
in_place            the searched function where an activation writes into an input that the network reads again
comparison          whether the network is still the user's, by its outputs
model_network       `network_from`: a `Task.network` from a model that has its own activations
transformers_models untrained models of transformers, from their configurations
feed_forward        feed-forward blocks, gated and not, and their exchange in a network
hidden_act          a found function as `hidden_act` of any model of transformers
"""

from aquasurf_ray.tasks.replacement.feed_forward import GATED_BASELINES, MLP, GatedMLP, gated_width
from aquasurf_ray.tasks.replacement.hidden_act import register_hidden_act
from aquasurf_ray.tasks.replacement.model_network import ModelNetwork, network_from
from aquasurf_ray.tasks.replacement.replace import Kept, Replacement, replace_activations

__all__ = [
    "GATED_BASELINES",
    "MLP",
    "GatedMLP",
    "Kept",
    "ModelNetwork",
    "Replacement",
    "gated_width",
    "network_from",
    "register_hidden_act",
    "replace_activations",
]
