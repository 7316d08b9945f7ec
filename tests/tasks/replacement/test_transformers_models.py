"""The activations of Hugging Face's models are found and replaced, and a found function becomes their `hidden_act`."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from functools import partial
from importlib import import_module

import pytest
import torch
import transformers
from hugging_face_families import FAMILIES, Family
from pages import ROOT
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2CLS, ACT2FN

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import TaskError, network_from, register_hidden_act, replace_activations
from aquasurf_ray.tasks.replacement import Kept
from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, GATES
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, fisher_spectrum

BY_NAME = {family.name: family for family in FAMILIES}
N_FUNCTIONS = {"T5": 4, "T5, gated": 4}  # encoder and decoder; two layers have two functions otherwise
KEPT_BY = {"BERT": "bert.pooler.activation (in the BertPooler)", "RoBERTa": "classifier (tanh, called by its own code)"}
FOUND = "mul(sigmoid(x),elu(x))"


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


@pytest.fixture
def name():
    """A name for a function that transformers forgets afterwards."""
    yield "found_here"
    for table in (ACT2CLS, ACT2FN):
        table.pop("found_here", None)


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def report(family, model, activation=nn.Tanh):
    return replace_activations(model, activation, family.only, inputs=family.inputs())


def stays(kept):
    return ", ".join(f"{k.name or 'the model'} ({k.reason})" for k in kept if "attention" not in k.reason)


def test_replacing_a_familys_function_by_the_same_changes_no_bit(family):
    model, inputs = family.model(), family.inputs()
    before = logits(model, inputs)
    replaced = report(family, model, family.own_function).replaced
    assert len(replaced) == N_FUNCTIONS.get(family.name, 2)
    assert torch.equal(logits(model, inputs), before)
    replace_activations(model, nn.Tanh, [*replaced])
    assert not torch.allclose(logits(model, inputs), before, atol=1e-6)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.expression], ids=lambda family: family.name)
@pytest.mark.slow
def test_the_languages_own_spelling_of_a_familys_function_changes_no_bit(family):
    model, inputs = family.model(), family.inputs()
    before = logits(model, inputs)
    replace_activations(model, family.expression, family.only)
    assert torch.equal(logits(model, inputs), before)


@pytest.mark.slow
def test_only_poolers_heads_and_attention_stay(family):
    found = report(family, family.model())
    whisper = "encoder (gelu, called by its own code)"
    assert stays(found.kept) == (whisper if "Whisper" in family.name else KEPT_BY.get(family.name, ""))


@pytest.mark.slow
def test_the_table_in_the_docs_is_what_is_found():
    rows = [table_row(family) for family in FAMILIES]
    page = (ROOT / "docs/hugging-face.md").read_text()
    found = re.findall(r"^\| (?!family|---).*\|$", page.partition("| family |")[2].partition("\n\n")[0], re.MULTILINE)
    assert found == rows, "docs/hugging-face.md should hold:\n" + "\n".join(rows)


def table_row(family: Family) -> str:
    model = family.model().train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedLayerWarning)
        coverage = fisher_spectrum(model, family.inputs()).coverage
    replaced = report(family, model).replaced
    pattern = re.sub(r"\.\d+\.", ".N.", replaced[0])
    tables = [name.removesuffix(".weight").rpartition(".")[2] for name in coverage.left_out]
    without = ", ".join(f"`{name}`" for name in dict.fromkeys(tables)) or "-"
    own = getattr(family.config(), family.setting)
    percent = str(coverage).partition(", ")[2].partition(" of")[0]
    matrices = f"{coverage.n_covered_matrices} of {coverage.n_matrices} matrices, {percent}"
    kept = stays(report(family, family.model()).kept)
    kept = re.sub(r"^([\w.]+) ", r"`\1` ", kept) or "-"
    cells = [family.name, f'`{family.setting}="{own}"`', f"`{pattern}`", kept, matrices, without]
    return f"| {' | '.join(cells)} |"


def test_no_activation_class_of_transformers_is_overlooked():
    known = {name for module, name in ACTIVATIONS | GATES if module == "transformers.activations"}
    module = import_module("transformers.activations")
    there = {c.__name__ for c in vars(module).values() if isinstance(c, type) and issubclass(c, nn.Module)}
    assert there - known == {"LinearActivation"}
    classes = [entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values()]
    places = {(c.__module__, c.__name__) for c in classes if c.__module__.startswith(("torch", "transformers"))}
    assert {name for place, name in places if (place, name) not in ACTIVATIONS | GATES} == {"LinearActivation"}


@pytest.mark.parametrize(("name", "only"), [("BERT", nn.Tanh), ("BERT", "bert.pooler.activation")])
def test_a_pooler_is_replaced_where_it_is_asked_for(name, only):
    model = BY_NAME[name].model()
    assert replace_activations(model, nn.ReLU, only).replaced == ("bert.pooler.activation",)
    assert isinstance(model.bert.pooler.activation, nn.ReLU)


def test_the_function_in_a_head_of_masked_language_models_stays():
    bert = transformers.BertForMaskedLM(BY_NAME["BERT"].config())
    kept = Kept("cls.predictions.transform.transform_act_fn", "in the BertPredictionHeadTransform")
    assert replace_activations(bert, nn.ReLU).kept == (kept,)
    roberta = transformers.RobertaForMaskedLM(BY_NAME["RoBERTa"].config())
    found = replace_activations(roberta, nn.ReLU, inputs=BY_NAME["RoBERTa"].inputs())
    assert Kept("lm_head", "gelu, called by its own code") in found.kept


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu_pytorch_tanh", "relu2", "swish", "mish", "quick_gelu"])
def test_the_function_of_a_gate_is_replaced_whatever_it_is(name):
    gated = BY_NAME["Llama"].model(hidden_act=name)
    assert report(BY_NAME["Llama"], gated).replaced == ("model.layers.0.mlp.act_fn", "model.layers.1.mlp.act_fn")
    assert all(isinstance(layer.mlp.act_fn, nn.Tanh) for layer in gated.model.layers)


def test_functions_with_bound_settings_in_attributes_are_replaced():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.layer = partial(functional.gelu, approximate="tanh"), nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.act(x))

    block = Block()
    assert replace_activations(block, nn.Tanh, inputs=torch.ones(2, 3)).replaced == ("act",)
    assert isinstance(block.act, nn.Tanh)


def test_the_message_that_finds_none_says_what_it_saw_and_how_to_name_one():
    class Bump(nn.Module):
        def forward(self, x):
            return torch.exp(-x * x)

    model = nn.Sequential(nn.Linear(2, 2), Bump(), nn.Linear(2, 2), Bump())
    with pytest.raises(TaskError) as raised:
        replace_activations(model, nn.Tanh)
    assert str(raised.value) == (
        "no activation found in Sequential; it has 2 Bump, 2 Linear; "
        "name one in only= by its class or its name, such as only=Bump"
    )
    assert replace_activations(model, nn.Tanh, Bump).replaced == ("1", "3")


@pytest.mark.parametrize("name", ["GPT-2", "BERT", "ViT", "T5"])
def test_a_configuration_is_a_network_with_random_weights(name):
    family = BY_NAME[name]
    network = network_from(family.config(), model_class=family.model_class)
    assert len(network.replacement.replaced) == N_FUNCTIONS.get(name, 2)
    assert any("attention" in kept.reason for kept in network.replacement.kept), "it was run once"
    torch.manual_seed(1)
    first = network(partial(Activation, FOUND))
    torch.manual_seed(1)
    again = pickle.loads(pickle.dumps(network))(partial(Activation, FOUND)).eval()
    assert sum(isinstance(m, Activation) for m in first.modules()) == N_FUNCTIONS.get(name, 2)
    assert torch.equal(logits(first.eval(), family.inputs()), logits(again, family.inputs()))
    assert family.config().to_dict() == network.make.configuration.to_dict(), "the user's configuration is left alone"


def test_a_model_stands_for_its_class_and_configuration():
    bert = BY_NAME["BERT"].model()
    network = network_from(bert)(nn.ReLU)
    assert type(network) is type(bert)
    assert not torch.equal(next(network.parameters()), next(bert.parameters())), "weights are drawn again"
    named = BY_NAME["BERT"].config(architectures=["BertForMaskedLM"])
    assert type(network_from(named)(nn.ReLU)) is transformers.BertForMaskedLM


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"make": nn.Linear(2, 2)}, "network_from takes a function that makes a model, .* got a Linear"),
        ({"make": nn.ReLU, "model_class": "AutoModel"}, "model_class is for a configuration"),
    ],
)
def test_what_makes_no_model_is_refused(arguments, text):
    with pytest.raises(TaskError, match=text):
        network_from(**arguments)


@pytest.mark.parametrize(
    ("settings", "model_class", "text"),
    [
        ({}, None, "this GPT2Config names no architecture; pass model_class="),
        ({}, "GPT3Model", "model_class must be a class of transformers or its name, got 'GPT3Model'"),
        (
            {"activation_function": "gelo"},
            "GPT2Model",
            "transformers cannot make a GPT2Model from this GPT2Config: .*gelo",
        ),
        ({}, "BertModel", "transformers cannot make a BertModel from this GPT2Config"),
    ],
)
def test_a_configuration_of_no_model_is_refused_in_one_line(settings, model_class, text):
    with pytest.raises(TaskError, match=text) as raised:
        network_from(BY_NAME["GPT-2"].config(**settings), model_class=model_class)(nn.ReLU)
    assert "\n" not in str(raised.value)


def test_calls_in_a_models_code_are_replaced_too():
    whisper = BY_NAME["Whisper's encoder"]
    model = whisper.model()
    report = replace_activations(model, nn.ReLU, inputs=whisper.inputs())
    assert "encoder.called_gelu" in report.replaced
    assert isinstance(model.encoder.called_gelu, nn.ReLU)


@pytest.mark.slow
def test_a_found_function_is_a_hidden_act_of_models_that_are_saved_and_loaded(family, name, tmp_path):
    register_hidden_act(name, FOUND)
    register_hidden_act(name, FOUND)
    if family.name == "T5, gated":
        model = family.model(feed_forward_proj=f"gated-{name}")
    else:
        model = family.model(**{family.setting: name})
    found = [m for m in model.modules() if isinstance(m, Activation)]
    assert len(found) >= 2
    assert {m.name for m in found} == {FOUND}
    model.save_pretrained(tmp_path)
    assert name in (tmp_path / "config.json").read_text()
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(logits(again, family.inputs()), logits(model, family.inputs()))


LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM
from aquasurf_ray.tasks import register_hidden_act
register_hidden_act("found_here", "mul(sigmoid(x),elu(x))")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(model(torch.arange(3)[None]).logits.sum().item())
"""


@pytest.mark.slow
def test_another_process_loads_the_folder_after_registering_the_function(name, tmp_path):
    register_hidden_act(name, FOUND)
    model = BY_NAME["Llama"].model(hidden_act=name)
    model.save_pretrained(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    expected = logits(model, {"input_ids": torch.arange(3)[None]}).sum().item()
    assert float(done.stdout) == pytest.approx(expected, rel=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == name


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("gelu", "hidden_act 'gelu' is a function of transformers already"),
        ("found_here", r"hidden_act 'found_here' is cosh\(x\) already; choose another name"),
        ("gated-mine", "hidden_act must be letters, digits and underscores, got 'gated-mine'"),
    ],
)
def test_names_that_are_taken_or_unfit_are_refused(name, given, text):
    register_hidden_act(name, "cosh(x)")
    with pytest.raises(TaskError, match=text):
        register_hidden_act(given, FOUND)


def test_without_transformers_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TaskError, match=r"pip install transformers"):
        register_hidden_act("mine", FOUND)
