"""The seed's networks: published sizes, no activation but the searched one, and a Fisher spectrum of every layer."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import DenseNet

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import TaskError, activation_calls, network_from, timm_network
from aquasurf_ray.tasks.networks.all_cnn_c import all_cnn_c
from aquasurf_ray.tasks.networks.coatnet import coatnet
from aquasurf_ray.tasks.networks.mobilevitv2 import mobilevitv2_050
from aquasurf_ray.tasks.networks.resnet50 import resnet50
from aquasurf_ray.tasks.networks.resnet56 import resnet56
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, fisher_spectrum


@dataclass(frozen=True)
class Case:
    """A network at a small image size; how often an activation is made and called; the gates, by function."""

    factory: object
    size: int
    n_weights: int
    n_created: int
    n_called: int
    gates: dict[str, int]


CASES = {
    "all-cnn-c": Case(all_cnn_c, 16, 1_369_738, 9, 9, {}),
    "resnet56": Case(resnet56, 16, 853_018, 55, 55, {}),
    "mobilevitv2-050": Case(mobilevitv2_050(1000, 64), 64, 1_370_593, 25 + 9, 25 + 9, {"softmax": 9}),
    "coatnet": Case(coatnet("coatnet_0_224", 10, 32), 32, None, 18 + 5 + 1, 24, {"sigmoid": 5, "attention": 7}),
    "coatnet-nano": Case(coatnet("coatnet_nano_rw_224", 10, 32), 32, None, 24 + 7, 31, {"sigmoid": 7, "attention": 9}),
    "resnet50": Case(resnet50(1000, 32), 32, 25_557_032, 17, 49, {}),
}


class Counted(nn.Module):
    """swish, which counts its calls."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return x * x.sigmoid()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def created(case):
    return []


@pytest.fixture(scope="module")
def network(case, created):
    def activation():
        created.append(Counted())
        return created[-1]

    torch.manual_seed(0)
    return case.factory(activation).train()


def images(case, n=2):
    return torch.randn(n, 3, case.size, case.size, generator=torch.Generator().manual_seed(0))


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_no_activation_is_left_but_the_listed_gates(case, network, created):
    assert len(created) == case.n_created
    Counted.calls = 0
    calls = activation_calls(network, images(case), outside=created)
    assert Counted.calls == case.n_called
    attention = {"softmax", "scaled_dot_product_attention"}
    found = {"attention": {c.module for c in calls if c.function in attention}}
    found |= {f: {c.module for c in calls if c.function == f} for f in ("sigmoid", "softmax")}
    assert {c.function for c in calls} <= attention | {"sigmoid"}
    for function, n in case.gates.items():
        assert len(found[function]) == n, function
    assert bool(calls) == bool(case.gates)
    if hasattr(case.factory, "replacement"):
        assert {c.module for c in calls} == {kept.name for kept in case.factory.replacement.kept}
        assert len(case.factory.replacement.replaced) == case.n_created
    assert all(c.stays for c in calls)


@pytest.mark.slow
def test_parameter_counts_are_the_published_ones(case, network):
    if case.n_weights is not None:
        assert n_parameters(network) == case.n_weights


@pytest.mark.parametrize(
    ("name", "expected"),
    [("coatnet_0_224", 25_036_820), ("coatnet_nano_rw_224", 15_141_244), ("mobilevitv2_050", 1_370_593)],
)
def test_parameter_counts_at_the_full_size(name, expected):
    with torch.device("meta"):
        assert n_parameters(timm_network(name, n_classes=1000).make()) == expected


@pytest.mark.slow
def test_the_networks_give_a_spectrum_of_every_layer_with_weights(case, network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedLayerWarning)  # names tables of relative positions
        spectra = fisher_spectrum(network, images(case))
    assert all(name.endswith("relative_position_bias_table") for name in spectra.coverage.left_out)
    assert not spectra.coverage.also_used
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert [s.name for s in spectra] == list(layers)
    assert [s.n_weights for s in spectra] == [n_parameters(m) for m in layers.values()]
    assert all(math.isfinite(s.log_eigenvalues().sum()) for s in spectra if s.n_weights < 100_000)
    missing = {n for n, p in network.named_parameters() if n.rpartition(".")[0] not in layers}
    assert all(p.rpartition(".")[2] in ("weight", "bias", "relative_position_bias_table") for p in missing)


@pytest.mark.parametrize("network", [all_cnn_c, resnet56, mobilevitv2_050(10, 32)])
@pytest.mark.slow
def test_the_function_decides_the_output(network):
    outputs = []
    for function in ("relu(x)", "tanh(x)"):
        torch.manual_seed(0)
        model = network(partial(Activation, function)).eval()
        outputs.append(model(torch.ones(1, 3, 32, 32)))
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize("name", ["seresnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050", "caformer_s18"])
@pytest.mark.slow
def test_other_networks_of_timm_keep_only_gates(name):
    created = []
    shape = (1, 32, 32)
    factory = (
        timm_network(name, n_classes=7, shape=shape, depth=2)
        if "vit" in name
        else timm_network(name, n_classes=7, shape=shape)
    )
    network = factory(lambda: created.append(nn.Identity()) or created[-1])
    calls = activation_calls(network, torch.zeros(2, *shape), outside=created)
    assert all(call.stays for call in calls)
    assert {call.module for call in calls} == {kept.name for kept in factory.replacement.kept}
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, 7)


def test_an_activation_that_the_networks_own_code_calls_is_replaced_too():
    """DenseNet's `forward` calls `F.relu` on what its last norm gives."""
    make = partial(DenseNet, growth_rate=4, block_config=(1, 1), num_init_features=4, num_classes=3)
    factory = network_from(make, example=(3, 32, 32))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def outputs(build):
        torch.manual_seed(0)
        return build()(images)

    assert torch.equal(outputs(lambda: factory(nn.ReLU)), outputs(make))
    calls = []
    identity = factory(nn.Identity)
    for module in identity.modules():
        if isinstance(module, nn.Identity):
            module.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
        assert not isinstance(module, nn.ReLU)
    identity(images)
    assert calls[-1] == (2, identity.classifier.in_features, 4, 4), "the one before the classifier's pooling"


def test_unknown_and_unfitting_networks_of_timm_are_refused_in_one_line():
    with pytest.raises(TaskError, match="timm has no network 'resnet81'; did you mean resnet"):
        timm_network("resnet81", n_classes=3)
    with pytest.raises(TaskError, match=r"timm cannot build 'resnet18' for inputs of .*unexpected keyword") as raised:
        timm_network("resnet18", n_classes=3, no_such_setting=1)(nn.ReLU)
    assert "\n" not in str(raised.value)
    with pytest.raises(TaskError, match=r"fails on inputs of shape \(2, 1, 8, 8\)"):
        timm_network("vit_tiny_patch16_224", n_classes=3, shape=(1, 8, 8))(nn.ReLU)


def test_all_cnn_c_starts_with_hes_weights_and_no_biases():
    torch.manual_seed(0)
    for layer in all_cnn_c(nn.ReLU):
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.var().item() * layer.weight[0].numel() == pytest.approx(2, rel=0.1)
            assert not layer.bias.any()
