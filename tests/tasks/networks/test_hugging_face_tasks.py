"""Models of transformers as tasks: language models on text, with transformers' own loss as the oracle, and a ViT."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from functools import partial
from pydoc_data.topics import topics

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, ViTConfig

from aquasurf_ray.activations import Activation, activation_of
from aquasurf_ray.tasks import Recipe, Task, TaskError, hugging_face_language_model, network_from
from aquasurf_ray.tasks.networks.digits import digits_data
from aquasurf_ray.tasks.objective import PERPLEXITY
from aquasurf_ray.tasks.replacement.feed_forward import GatedMLP
from aquasurf_ray.workers.network import spectrum_batch, untrained_network
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, task_spectrum
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
TEXT = "".join(topics[name] for name in sorted(topics))[:60_000]
DOCUMENTS = [topics[name][: 20 + 3 * i] for i, name in enumerate(sorted(topics)[:40])]
TOKENS = {"vocab_size": 256, "bos_token_id": None, "eos_token_id": None}
GPT2 = GPT2Config(
    n_embd=32, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **TOKENS
)
LLAMA = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
    **TOKENS,
)
SHORT = Recipe(epochs=1, batch_size=32, learning_rate=0.01, optimizer="adamw", clip_norm=1.0)


def gelu_network(task):
    return untrained_network(task, partial(Activation, "gelu(x)"), seed=0, device=CPU).eval()


@pytest.mark.parametrize("source", [TEXT, DOCUMENTS], ids=["pieces", "padded documents"])
@pytest.mark.slow
def test_loss_and_perplexity_are_those_of_transformers(source):
    """Its models shift the labels themselves, and ignore those of -100."""
    task = hugging_face_language_model(LLAMA, source, length=40)
    network, split = gelu_network(task), task.splits().validation
    state, losses, counts = task.objective.begin_metric(CPU), [], []
    for inputs, targets in (split[i] for i in range(len(split))):
        ids = inputs if isinstance(inputs, torch.Tensor) else inputs["input_ids"]
        n = int((targets != -100).sum())
        labels = torch.cat([ids[:1], targets])[None]
        whole = torch.cat([ids, targets[-1:].clamp(min=0)])[None]
        with torch.no_grad():
            losses.append(network(whole, labels=labels).loss.item() * n)
            named = (
                {"input_ids": ids[None]}
                if isinstance(inputs, torch.Tensor)
                else {key: value[None] for key, value in inputs.items()}
            )
            state.update(network(**named).logits, targets[None])
        counts.append(n)
    assert len(counts) > 3
    assert state.compute() == pytest.approx(math.exp(sum(losses) / sum(counts)), rel=1e-4)
    assert task.objective.metric is PERPLEXITY


def test_the_model_gets_the_masks_and_padding_changes_nothing():
    task = hugging_face_language_model(GPT2, DOCUMENTS, length=64)
    inputs, targets = spectrum_batch(task, task.splits(), seed=0, device=CPU)
    network = gelu_network(task)
    assert 0 < inputs["attention_mask"].sum() < inputs["attention_mask"].numel()
    seen = []
    network.register_forward_pre_hook(lambda *a: seen.append(a[2]["attention_mask"]), with_kwargs=True)
    with torch.no_grad():
        logits = network(**inputs).logits
        other = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], 7)
        changed = network(input_ids=other, attention_mask=inputs["attention_mask"]).logits
    counted = targets != -100
    assert torch.equal(seen[0], inputs["attention_mask"])
    assert torch.allclose(logits[counted], changed[counted], atol=1e-6)
    loss = task.objective.loss(logits, targets)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits[counted], targets[counted]).item(), rel=1e-5)


def test_tied_embeddings_stay_tied_and_untied_ones_apart():
    tied = gelu_network(hugging_face_language_model(GPT2, TEXT))
    assert tied.lm_head.weight is tied.transformer.wte.weight
    apart = gelu_network(hugging_face_language_model(LLAMA, TEXT))
    assert apart.lm_head.weight is not apart.model.embed_tokens.weight


@pytest.mark.parametrize(("config", "source"), [(GPT2, TEXT), (LLAMA, DOCUMENTS)], ids=["gpt2", "llama, documents"])
@pytest.mark.slow
def test_a_language_model_learns_and_its_digest_is_that_of_its_copy(config, source):
    task = hugging_face_language_model(config, source, length=32, recipe=replace(SHORT, epochs=3))
    assert pickle.loads(pickle.dumps(task)).digest == task.digest
    result = train(task, Activation("mul(sigmoid(x),elu(x))"))
    assert result.reason is None
    assert -result.score < 0.5 * 256, "half of the perplexity of no knowledge"


def test_its_spectrum_covers_every_matrix_but_tables():
    task = hugging_face_language_model(LLAMA, TEXT, length=16)
    with pytest.warns(SkippedLayerWarning, match=r"left out of the spectrum: model\.embed_tokens \(embedding\)"):
        coverage = task_spectrum(task, task.splits(), "gelu(x)", seed=0, device=CPU).coverage
    assert list(coverage.left_out) == ["model.embed_tokens.weight"]


def test_what_a_task_is_made_of_decides_its_digest():
    digests = {
        hugging_face_language_model(GPT2, TEXT, length=32).digest,
        hugging_face_language_model(GPT2, TEXT, length=16).digest,
        hugging_face_language_model(GPT2, TEXT, length=32, gated=True).digest,
        hugging_face_language_model(LLAMA, TEXT, length=32).digest,
        hugging_face_language_model(GPT2, DOCUMENTS, length=32).digest,
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"configuration": "gpt2"}, "configuration must be one of transformers, got str"),
        ({"length": 65}, "length must be between 1 and 64, the model's positions, got 65"),
    ],
)
def test_wrong_arguments_are_refused(arguments, text):
    with pytest.raises(TaskError, match=text):
        hugging_face_language_model(**{"configuration": GPT2, "text_or_tokens": TEXT, **arguments})


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.slow
def test_a_network_with_a_found_function_compiles_as_one_graph_and_runs_in_bfloat16(config):
    network = gelu_network(hugging_face_language_model(config, TEXT))
    tokens = torch.arange(24).reshape(2, 12)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(tokens).logits, network(tokens).logits, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(tokens).logits
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), network(tokens).logits, atol=0.05)


def test_gated_and_ungated_language_models_have_as_many_weights():
    gated = hugging_face_language_model(GPT2, TEXT, gated=True)
    plain = hugging_face_language_model(GPT2, TEXT)
    network = gelu_network(gated)
    blocks = [module for module in network.modules() if isinstance(module, GatedMLP)]
    assert len(blocks) == 2
    assert {type(block.act) for block in blocks} == {Activation}
    n, n_before = (sum(p.numel() for p in net.parameters()) for net in (network, gelu_network(plain)))
    assert n == pytest.approx(n_before, rel=0.02)
    assert gated.baselines == ("gelu(x)", "x", "sin(x)")
    assert plain.baselines == ()
    assert hugging_face_language_model(LLAMA, TEXT).baselines == gated.baselines
    assert hugging_face_language_model(LLAMA, TEXT, gated=False).baselines == ()


@pytest.mark.parametrize("function", ["sigmoid(x)", "relu(x)", "gelu(x)", "swish(x)", "x", "sin(x)"])
@pytest.mark.slow
def test_every_baseline_of_gates_trains(function):
    task = hugging_face_language_model(GPT2, TEXT[:20_000], length=32, gated=True, recipe=SHORT)
    result = train(task, Activation(function))
    assert result.reason is None
    assert math.isfinite(result.score)


@pytest.mark.slow
def test_a_vit_of_transformers_classifies_digits():
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_labels=10,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    network = network_from(config, model_class="AutoModelForImageClassification")
    assert len(network.replacement.replaced) == 2
    task = Task("vit/digits", network, digits_data, replace(SHORT, epochs=15, batch_size=32, learning_rate=0.003))
    result = train(task, Activation("mul(sigmoid(x),elu(x))"))
    assert result.score > 0.75, "a tenth is chance"


@pytest.mark.parametrize("gated", [None, True], ids=["as it is", "gated"])
def test_a_function_per_role_is_in_the_blocks_of_its_role(gated):
    blocks = {"early": "transformer.h.0.*", "late": "transformer.h.1.*"}
    task = hugging_face_language_model(GPT2, TEXT[:2000], length=16, gated=gated, only=blocks)
    assert task.places == {"early": ["transformer.h.0.mlp.act"], "late": ["transformer.h.1.mlp.act"]}
    network = untrained_network(task, activation_of("early=swish(x);late=tanh(x)"), seed=0, device=CPU).eval()
    by_hand = gelu_network(hugging_face_language_model(GPT2, TEXT[:2000], length=16, gated=gated))
    by_hand.transformer.h[0].mlp.act, by_hand.transformer.h[1].mlp.act = nn.SiLU(), nn.Tanh()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(network(tokens).logits, by_hand(tokens).logits)


def test_the_model_is_that_of_transformers_bit_for_bit():
    task = hugging_face_language_model(LLAMA, TEXT)
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(LLAMA, dtype=torch.float32).eval()
    ours = untrained_network(task, partial(Activation, "swish(x)"), seed=0, device=CPU).eval()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)
