"""Gated feed-forward blocks: their values, their widths, and the exchange of gated and ungated ones in a network."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import timm
import torch
from hugging_face_families import FAMILIES
from timm.layers import GluMlp, SwiGLU
from timm.layers import Mlp as TimmMlp
from torch import nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import GATED_BASELINES, MLP, GatedMLP, TaskError, gated_width, network_from, replace_activations
from aquasurf_ray.tasks.networks.characters import Characters
from aquasurf_ray.tasks.replacement.feed_forward import MULTIPLE, exchange_feed_forwards, ungated_width

BY_NAME = {family.name: family for family in FAMILIES}
PLAIN = ["GPT-2", "GPT-NeoX", "Nemotron", "Apertus", "T5", "ViT", "Swin"]
GATED = ["Llama", "Gemma", "Qwen2", "Qwen3", "Mistral", "T5, gated"]


def n_weights(network):
    return sum(p.numel() for p in network.parameters())


def deviations_of_blocks(network, gated):
    """The deviations of the first and the last matrix of each block; those of wi and wo, c_fc and c_proj, ..."""
    blocks = exchange_feed_forwards(deepcopy(network), gated) if gated is not None else None
    names = blocks or [name for name, module in network.named_modules() if isinstance(module, GatedMLP | MLP)]
    matrices = [[p.detach() for p in network.get_submodule(n).parameters() if p.dim() > 1] for n in names]
    return [float(matrix.std()) for found in matrices for matrix in (found[0], found[-1])]


def test_a_gated_block_computes_the_formula():
    torch.manual_seed(0)
    block, x = GatedMLP(6, 8, nn.Tanh).double(), torch.randn(3, 5, 6, dtype=torch.float64)
    w1, b1, w2, b2 = (p.detach().numpy() for p in (*block.gate_proj.parameters(), *block.up_proj.parameters()))
    w3, b3 = (p.detach().numpy() for p in block.down_proj.parameters())
    values = x.numpy()
    expected = (np.tanh(values @ w1.T + b1) * (values @ w2.T + b2)) @ w3.T + b3
    assert np.allclose(block(x).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "expression", "theirs"),
    [
        ("GLU", "sigmoid(x)", partial(GluMlp, gate_last=False)),
        ("ReGLU", "relu(x)", partial(GluMlp, act_layer=nn.ReLU, gate_last=False)),
        ("GEGLU", "gelu(x)", partial(GluMlp, act_layer=nn.GELU, gate_last=False)),
        ("SwiGLU", "swish(x)", SwiGLU),
        ("bilinear", "x", partial(GluMlp, act_layer=nn.Identity, gate_last=False)),
    ],
)
def test_the_baselines_are_timms_blocks(name, expression, theirs):
    torch.manual_seed(0)
    ours = GatedMLP(6, 8, partial(Activation, expression))
    block, x = theirs(6, 16 if isinstance(theirs, partial) else 8), torch.randn(3, 6)
    parts = [*ours.gate_proj.parameters(), *ours.up_proj.parameters()]
    with torch.no_grad():
        if name == "SwiGLU":
            own = [*block.fc1_g.parameters(), *block.fc1_x.parameters()]
            for mine, other in zip(parts, own, strict=True):
                mine.copy_(other)
        else:
            halves = [*block.fc1.weight.chunk(2), *block.fc1.bias.chunk(2)]
            for mine, other in zip(parts[::2] + parts[1::2], halves, strict=True):
                mine.copy_(other)
        ours.down_proj.load_state_dict(block.fc2.state_dict())
        assert torch.allclose(ours(x), block(x), atol=1e-6)


def test_singlu_and_the_other_baselines_are_in_the_language():
    assert GATED_BASELINES == ("gelu(x)", "x", "sin(x)")
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(Activation("sin(x)")(x), x.sin())
    assert torch.equal(Activation("x")(x), x)


@pytest.mark.parametrize("hidden", [96, 128, 192, 256, 1024, 3072, 11008])
def test_gated_widths_are_two_thirds_and_keep_the_number_of_weights(hidden):
    width = gated_width(hidden)
    assert width % MULTIPLE == 0
    assert abs(width - hidden * 2 / 3) <= MULTIPLE / 2
    gated, plain = (n_weights(kind(64, h, nn.ReLU)) for kind, h in ((GatedMLP, width), (MLP, hidden)))
    assert gated == pytest.approx(plain, rel=0.06 if hidden < 128 else 0.04)
    assert ungated_width(width) == pytest.approx(hidden, abs=MULTIPLE)


@pytest.mark.parametrize("name", PLAIN + GATED)
def test_families_become_gated_and_ungated_with_as_many_weights(name):
    model = BY_NAME[name].model()
    before, deviations = n_weights(model), deviations_of_blocks(model, name in PLAIN)
    blocks = exchange_feed_forwards(model, name in PLAIN)
    assert len(blocks) == (4 if name.startswith("T5") else 2)
    kind = GatedMLP if name in PLAIN else MLP
    assert all(isinstance(model.get_submodule(block), kind) for block in blocks)
    assert n_weights(model) == pytest.approx(before, rel=0.03)
    assert deviations_of_blocks(model, None) == pytest.approx(deviations, rel=0.05)
    assert len(replace_activations(model, nn.Tanh).replaced) == len(blocks)
    with torch.no_grad():
        assert model(**BY_NAME[name].inputs()).logits.isfinite().all()


@pytest.mark.parametrize("name", GATED)
def test_blocks_of_the_wanted_kind_stay(name):
    model = BY_NAME[name].model()
    before = model.state_dict()
    exchange_feed_forwards(model, True)
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    ("block", "gated"),
    [
        (TimmMlp(8, 48, drop=0.25), True),
        (GluMlp(8, 64, drop=0.25), False),
        (SwiGLU(8, 32, drop=0.25), False),
        (nn.Sequential(nn.Linear(8, 48), nn.GELU(), nn.Linear(48, 8)), True),
        (MLP(8, 48, nn.ReLU, bias=False), True),
        (GatedMLP(8, 32, nn.Sigmoid, bias=False), False),
    ],
    ids=["timm's Mlp", "timm's GluMlp", "timm's SwiGLU", "Sequential", "MLP", "GatedMLP"],
)
def test_blocks_of_timm_and_custom_ones_are_recognised(block, gated):
    model = nn.Sequential(nn.Linear(8, 8), block)
    assert exchange_feed_forwards(model, gated) == ["1"]
    new = model[1]
    assert isinstance(new, GatedMLP if gated else MLP)
    assert new.down_proj.in_features == (32 if gated else 48)
    assert new.dropout.p == max((m.p for m in block.modules() if isinstance(m, nn.Dropout)), default=0)
    assert (new.up_proj.bias is None) == (next(m for m in block.modules() if isinstance(m, nn.Linear)).bias is None)


def test_a_network_takes_gated_and_searches_the_function_of_the_gate():
    vit = partial(timm.create_model, "vit_tiny_patch16_224", img_size=32, depth=2, num_classes=7)
    network = network_from(vit, gated=True, example=(3, 32, 32))
    assert network.is_gated
    assert not network_from(vit).is_gated
    assert network.replacement.replaced == ("blocks.0.mlp.act", "blocks.1.mlp.act")
    assert n_weights(network(nn.ReLU)) == pytest.approx(n_weights(vit()), rel=0.01)
    characters = network_from(partial(Characters, nn.ReLU), gated=True)(partial(Activation, "sin(x)"))
    blocks = [module for module in characters.modules() if isinstance(module, GatedMLP)]
    assert [block.act.name for block in blocks] == ["sin(x)", "sin(x)"]
    assert n_weights(characters) == pytest.approx(n_weights(Characters(nn.ReLU)), rel=0.01)


@pytest.mark.parametrize("make", [partial(nn.Linear, 3, 3), BY_NAME["BERT"].model], ids=["no block", "BERT"])
def test_a_model_without_a_feed_forward_block_of_its_own_is_refused(make):
    with pytest.raises(TaskError, match="gated=True found no feed-forward block in"):
        network_from(make, gated=True)(nn.ReLU)
