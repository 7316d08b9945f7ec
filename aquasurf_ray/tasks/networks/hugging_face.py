"""A causal language model of transformers as a task, trained from random weights on your text.

The recipe is a starting point, not a published one: AdamW with warm-up and cosine, gradients clipped at norm 1, and
bfloat16 where the device has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aquasurf_ray.tasks.data_sets.token_data import TextOrTokens, TokenData, utf8
from aquasurf_ray.tasks.errors import TaskError, require
from aquasurf_ray.tasks.objective import language_modelling
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.replacement import GATED_BASELINES, network_from
from aquasurf_ray.tasks.replacement.places import Only
from aquasurf_ray.tasks.replacement.transformers_models import is_configuration
from aquasurf_ray.tasks.task import Task

LENGTH = 128
"""Positions of an example, if the model takes as many."""

RECIPE = Recipe(
    epochs=2,
    batch_size=32,
    learning_rate=3e-3,
    optimizer="adamw",
    weight_decay=0.1,
    schedule="cosine",
    warmup_fraction=0.1,
    clip_norm=1.0,
    precision="auto",
)


def hugging_face_language_model(
    configuration: Any,
    text_or_tokens: TextOrTokens,
    *,
    name: str | None = None,
    length: int | None = None,
    tokenizer: Callable[[str], Any] = utf8,
    recipe: Recipe = RECIPE,
    only: Only | Mapping[str, Only] = None,
    gated: bool | None = None,
    model_class: type | str = "AutoModelForCausalLM",
    version: str = "1",
) -> Task:
    """Return the task of predicting the next token; the metric is perplexity.

    Args:
        configuration: one of transformers' configurations, such as `GPT2Config(vocab_size=256, n_layer=2, n_embd=64,
            n_head=4)`. Tied embeddings stay tied.
        text_or_tokens: a text; its tokens, integers in a row; or a list of such documents, which are padded; or a
            function that returns one of these, called where the data are loaded.
        name: the task's name; by default made of the model's type, such as `gpt2-language` or `gpt2-language-gated`.
        length: positions of an example; by default 128, or as many as the model takes.
        tokenizer: (text) -> tokens, such as transformers' tokenizers; by default the text's bytes, which need a
            `vocab_size` of 256.
        recipe: the training settings.
        only: as in `replace_activations`; or a dictionary of these by role, for a function per role, such as
            `{"early": "transformer.h.0.*", "late": "transformer.h.1.*"}`.
        gated: make all feed-forward blocks gated or ungated, at equal weights: see `network_from`.
        model_class: the class of the model, or its name.
        version: as in `Task`.

    Raises:
        TaskError: the configuration is none, or the model takes fewer positions than `length`.
    """
    if not is_configuration(configuration):
        raise TaskError(f"configuration must be one of transformers, got {type(configuration).__name__}")
    # Models with rotary or relative positions may name no limit.
    longest = getattr(configuration, "max_position_embeddings", None) or LENGTH
    length = min(LENGTH, longest) if length is None else length
    require(1 <= length <= longest, "length", length, f"between 1 and {longest}, the model's positions")
    padding = configuration.pad_token_id
    data = TokenData(
        # Some models list several padding tokens or none. Any token will do: the mask and the target -100 hide it.
        text_or_tokens,
        length,
        configuration.vocab_size,
        tokenizer,
        padding if isinstance(padding, int) else 0,
    )
    network = network_from(configuration, only, model_class=model_class, gated=gated)
    return Task(
        name=name or f"{configuration.model_type}-language{'-gated' if gated else ''}",
        network=network,
        data=data,
        recipe=recipe,
        objective=language_modelling(),
        version=version,
        baselines=GATED_BASELINES if network.is_gated else (),
        # Each position counts as an output, so 32 examples give as many gradients as 4,096 images.
        spectrum_batch_size=32,
    )
